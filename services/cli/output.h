// Standard output of a command: what cannot be written is an error of the command's, not silence.
#ifndef CCOE_SERVICES_CLI_OUTPUT_H_
#define CCOE_SERVICES_CLI_OUTPUT_H_

#include "absl/status/status.h"

namespace ccoe::cli {

// From here on std::cout is written to descriptor 1 by code that keeps the reason of the first
// failure; a terminal gets each line at once, all else gets what is flushed or 64 KiB. A reader
// that is gone is such a failure, not the end of the process (SIGPIPE is ignored). A standard
// descriptor that is closed is taken, so that no file or socket gets its number and what was meant
// for the screen. For the whole process; a second call forgets the failures before it.
void PrepareStandardOutput();

// Writes what std::cout holds back. DATA_LOSS with the reason where that failed, now or earlier;
// after the first failure nothing more is written.
absl::Status FlushStandardOutput();

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_OUTPUT_H_
