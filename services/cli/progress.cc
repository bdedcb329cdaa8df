#include "services/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace ccoe::cli {
namespace {

constexpr int64_t kBarWidth = 30;
constexpr size_t kMaxLine = 80;

}  // namespace

std::string ProgressLine(const std::string& label, int64_t done, int64_t total) {
  total = std::max<int64_t>(total, 1);
  done = std::clamp<int64_t>(done, 0, total);
  const int64_t filled = kBarWidth * done / total;
  std::string bar(filled, '=');
  if (filled < kBarWidth) bar += '>';
  bar.resize(kBarWidth, ' ');
  const std::string tail = absl::StrCat(" [", bar, "] ", done, "/", total);
  return label.substr(0, kMaxLine - std::min(kMaxLine, tail.size())) + tail;
}

Progress::Progress(std::string label, int64_t total)
    : label_(std::move(label)),
      total_(total),
      draws_(isatty(STDERR_FILENO) != 0),
      last_drawn_(absl::InfinitePast()) {}

Progress::~Progress() {
  if (draws_ && last_drawn_ != absl::InfinitePast()) std::fprintf(stderr, "\r%80s\r", "");
}

void Progress::Update(int64_t done) {
  const absl::Time now = absl::Now();
  if (!draws_ || (done < total_ && now - last_drawn_ < absl::Milliseconds(100))) return;
  last_drawn_ = now;
  std::fprintf(stderr, "\r%s", ProgressLine(label_, done, total_).c_str());
  std::fflush(stderr);
}

}  // namespace ccoe::cli
