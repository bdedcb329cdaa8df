// SPDX-License-Identifier: Apache-2.0
// What a command shows: its results on standard output, where what cannot be written is an error of
// the command's, not silence; how far it has come on stderr.
#ifndef CCOE_SERVICES_CLI_OUTPUT_H_
#define CCOE_SERVICES_CLI_OUTPUT_H_

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"

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

// How far long work has come, on stderr: a bar where that is a terminal, elsewhere (a log, a pipe)
// a plain line now and then, so that work of minutes is not silent.

// Where progress goes. The defaults are what commands use.
struct ProgressOutput {
  std::FILE* file = stderr;
  bool terminal = false;
  const Clock* clock = nullptr;  // outlives the progress

  static ProgressOutput Stderr();
};

// Not thread-safe.
class Progress {
 public:
  // `label` in front of the bar, `total` > 0 units of work.
  Progress(std::string label, int64_t total, ProgressOutput output = ProgressOutput::Stderr());
  // Clears the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of total are finished; `detail` says more. Redraws at most ten times a second; off a
  // terminal writes at most a line in ten seconds, and none before the first ten are over.
  void Update(int64_t done, const std::string& detail = "");

 private:
  const std::string label_;
  const int64_t total_;
  const ProgressOutput output_;
  absl::Time last_drawn_;
};

// "eval math [=====>    ] 250/500", at most 80 characters.
std::string ProgressLine(const std::string& label, int64_t done, int64_t total,
                         const std::string& detail = "");

// What a server is doing while it starts, on stderr: one line that changes where stderr is a
// terminal, plain lines elsewhere. Not thread-safe.
class StatusLine {
 public:
  StatusLine();
  ~StatusLine() { Clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void Show(const std::string& what);
  // Takes the line away from a terminal.
  void Clear();

 private:
  const bool terminal_;
  bool shown_ = false;
};

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_OUTPUT_H_
