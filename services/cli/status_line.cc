#include "services/cli/status_line.h"

#include <unistd.h>

#include <iostream>

namespace ccoe::cli {
namespace {

constexpr char kEraseLine[] = "\r\033[K";

}  // namespace

StatusLine::StatusLine() : terminal_(isatty(STDERR_FILENO) == 1) {}

void StatusLine::Show(const std::string& what) {
  if (terminal_) {
    std::cerr << kEraseLine << what.substr(0, 78) << std::flush;
    shown_ = true;
  } else {
    std::cerr << what << std::endl;
  }
}

void StatusLine::Clear() {
  if (shown_) std::cerr << kEraseLine << std::flush;
  shown_ = false;
}

}  // namespace ccoe::cli
