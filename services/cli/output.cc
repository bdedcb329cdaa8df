// SPDX-License-Identifier: Apache-2.0
#include "services/cli/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <streambuf>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace ccoe::cli {
namespace {

constexpr size_t kHeldBackBytes = 64 << 10;

// Thread-safe, as std::cout is: it has no area of its own that streams would write to unseen.
class OutputBuffer final : public std::streambuf {
 public:
  void Reset() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    error_ = 0;
    terminal_ = ::isatty(STDOUT_FILENO) != 0;
  }

  // 0, or the errno of the first failure.
  int error() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return error_;
  }

 protected:
  std::streamsize xsputn(const char* text, std::streamsize size) override
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const absl::string_view added(text, static_cast<size_t>(size));
    held_.append(added.data(), added.size());
    const bool line = terminal_ && added.find('\n') != absl::string_view::npos;
    if (line || held_.size() >= kHeldBackBytes) Write();
    return error_ == 0 ? size : 0;
  }

  int_type overflow(int_type c) override {
    const char one = traits_type::to_char_type(c);
    if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
    return xsputn(&one, 1) == 1 ? c : traits_type::eof();
  }

  int sync() override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    Write();
    return error_ == 0 ? 0 : -1;
  }

 private:
  void Write() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    absl::string_view rest = held_;
    while (error_ == 0 && !rest.empty()) {
      const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
      if (written >= 0) {
        rest.remove_prefix(static_cast<size_t>(written));
      } else if (errno != EINTR) {
        error_ = errno;
      }
    }
    held_.clear();
  }

  mutable absl::Mutex mutex_;
  std::string held_ ABSL_GUARDED_BY(mutex_);
  bool terminal_ ABSL_GUARDED_BY(mutex_) = false;
  int error_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Never destroyed: std::cout is flushed once more when the process ends.
OutputBuffer& Buffer() {
  static OutputBuffer* const buffer = new OutputBuffer();
  return *buffer;
}

// Opened the wrong way round, so that using it fails as using the closed one would have.
void TakeClosedDescriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // Gives the lowest number that is free, which is this one.
    (void)::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

constexpr int64_t kBarWidth = 30;
constexpr size_t kMaxLine = 80;
constexpr absl::Duration kRedraw = absl::Milliseconds(100);
constexpr absl::Duration kPlainLine = absl::Seconds(10);

constexpr char kEraseLine[] = "\r\033[K";

}  // namespace

void PrepareStandardOutput() {
  TakeClosedDescriptors();
  std::signal(SIGPIPE, SIG_IGN);
  std::cout.flush();
  Buffer().Reset();
  std::cout.rdbuf(&Buffer());  // clears the stream's state, too
}

absl::Status FlushStandardOutput() {
  std::cout.flush();
  const int error = Buffer().error();
  if (error == 0) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("standard output: cannot be written: ", std::strerror(error)));
}

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
