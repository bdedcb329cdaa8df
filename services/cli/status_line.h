// What a server is doing while it starts, on stderr: one line that changes where stderr is a
// terminal, plain lines elsewhere.
#ifndef CCOE_SERVICES_CLI_STATUS_LINE_H_
#define CCOE_SERVICES_CLI_STATUS_LINE_H_

#include <string>

namespace ccoe::cli {

// Not thread-safe.
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

#endif  // CCOE_SERVICES_CLI_STATUS_LINE_H_
