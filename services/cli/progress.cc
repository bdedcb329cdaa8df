#include "services/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ccoe::cli {
namespace {

constexpr int64_t kBarWidth = 30;
constexpr size_t kMaxLine = 80;
constexpr absl::Duration kRedraw = absl::Milliseconds(100);
constexpr absl::Duration kPlainLine = absl::Seconds(10);

}  // namespace

ProgressOutput ProgressOutput::Stderr() {
  return {stderr, isatty(STDERR_FILENO) != 0, &ClockOr(nullptr)};
}

std::string ProgressLine(const std::string& label, int64_t done, int64_t total,
                         const std::string& detail) {
  total = std::max<int64_t>(total, 1);
  done = std::clamp<int64_t>(done, 0, total);
  const int64_t filled = kBarWidth * done / total;
  std::string bar(filled, '=');
  if (filled < kBarWidth) bar += '>';
  bar.resize(kBarWidth, ' ');
  const std::string tail = absl::StrCat(" [", bar, "] ", done, "/", total);
  std::string line = label.substr(0, kMaxLine - std::min(kMaxLine, tail.size())) + tail;
  if (!detail.empty()) absl::StrAppend(&line, " ", detail);
  return line.substr(0, kMaxLine);
}

Progress::Progress(std::string label, int64_t total, ProgressOutput output)
    : label_(std::move(label)),
      total_(total),
      output_(output),
      last_drawn_(output.terminal ? absl::InfinitePast() : output.clock->Now()) {}

Progress::~Progress() {
  if (!output_.terminal || last_drawn_ == absl::InfinitePast()) return;
  std::fprintf(output_.file, "\r%*s\r", static_cast<int>(kMaxLine), "");
}

void Progress::Update(int64_t done, const std::string& detail) {
  const absl::Time now = output_.clock->Now();
  const absl::Duration since = now - last_drawn_;
  if (output_.terminal ? done < total_ && since < kRedraw : since < kPlainLine) return;
  last_drawn_ = now;
  if (output_.terminal) {
    // A shorter line covers a longer one.
    std::fprintf(output_.file, "\r%-*s", static_cast<int>(kMaxLine),
                 ProgressLine(label_, done, total_, detail).c_str());
  } else {
    std::fprintf(output_.file, "%s: %lld/%lld%s%s\n", label_.c_str(), static_cast<long long>(done),
                 static_cast<long long>(total_), detail.empty() ? "" : ", ", detail.c_str());
  }
  std::fflush(output_.file);
}

}  // namespace ccoe::cli
