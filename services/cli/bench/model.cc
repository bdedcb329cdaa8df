// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/model.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "services/launcher/role_options.h"

namespace ccoe::cli {
namespace {

void Remove(const std::string& folder) {
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

// The guard's life: waits for the end of whoever holds the pipe's other end. A session of its own,
// so that what ends the benchmark (^C, the end of the terminal) does not end the guard; no
// descriptor but the pipe, so that nobody waits for it.
[[noreturn]] void Guard(int pipe_end, const std::string& folder) {
  setsid();
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  dup2(pipe_end, 0);
  close_range(1, ~0U, 0);
  char byte = 0;
  while (read(0, &byte, 1) < 0 && errno == EINTR) {
  }
  Remove(folder);
  _exit(0);
}

}  // namespace

void AddBenchModelFlags(CLI::App* command, BenchModelFlags& flags) {
  AddFlag(command, "--dir", flags.folder,
          "Folder for the random models; default: a temporary one.");
  AddSwitch(command, "--keep", flags.keep, "Keep the models.");
  AddFlags(command, services::ThreadsFlags(flags.threads));
  AddFlag(command, "--hidden", flags.hidden, "Width of the model.");
  AddFlag(command, "--layers", flags.layers, "Decoder layers.");
  AddFlag(command, "--heads", flags.heads, "Query heads.");
  AddFlag(command, "--kv-heads", flags.kv_heads, "Key and value heads.");
  AddFlag(command, "--intermediate", flags.intermediate, "Width of the feed-forward block.");
  AddFlag(command, "--vocabulary", flags.vocabulary, "Tokens in the vocabulary.");
  AddFlag(command, "--dtype", flags.dtype, "Type of the weights.").OneOf({"bf16", "f16", "f32"});
  AddFlags(command, services::ComputeFlags(flags.compute));
}

model::RandomModelOptions ToModelOptions(const BenchModelFlags& flags, uint64_t seed) {
  model::RandomModelOptions options;
  options.hidden_size = flags.hidden;
  options.layers = flags.layers;
  options.heads = flags.heads;
  options.kv_heads = flags.kv_heads;
  options.head_dim = flags.heads > 0 ? flags.hidden / flags.heads : 0;
  options.intermediate_size = flags.intermediate;
  options.vocab_size = flags.vocabulary;
  options.dtype = flags.dtype == "f32"   ? kernels::DType::kF32
                  : flags.dtype == "f16" ? kernels::DType::kF16
                                         : kernels::DType::kBF16;
  options.seed = seed;
  return options;
}

absl::StatusOr<std::unique_ptr<BenchFolder>> BenchFolder::Create(const BenchModelFlags& flags) {
  std::error_code error;
  std::string path = flags.folder;
  if (path.empty()) {
    path = (std::filesystem::temp_directory_path(error) / "ccoe-bench-XXXXXX").string();
    if (error || mkdtemp(path.data()) == nullptr) {
      return absl::UnavailableError(absl::StrCat(path, ": cannot make a temporary folder"));
    }
  } else if (std::filesystem::exists(path, error)) {
    return absl::AlreadyExistsError(
        absl::StrCat("--dir ", path, ": expected a folder that is not there yet"));
  } else if (!std::filesystem::create_directories(path, error)) {
    return absl::UnavailableError(absl::StrCat("--dir ", path, ": ", error.message()));
  }
  auto folder = std::unique_ptr<BenchFolder>(new BenchFolder(std::move(path)));
  if (!flags.keep) CCOE_RETURN_IF_ERROR(folder->StartGuard());
  return folder;
}

absl::Status BenchFolder::StartGuard() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    Remove(path_);
    return absl::UnavailableError(absl::StrCat(path_, ": pipe: ", strerror(errno)));
  }
  guard_ = fork();
  if (guard_ == 0) Guard(ends[0], path_);
  close(ends[0]);
  guard_fd_ = ends[1];
  if (guard_ > 0) return absl::OkStatus();
  Remove(path_);
  return absl::UnavailableError(absl::StrCat(path_, ": fork: ", strerror(errno)));
}

BenchFolder::~BenchFolder() {
  if (guard_fd_ >= 0) close(guard_fd_);
  if (guard_ > 0) waitpid(guard_, nullptr, 0);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

absl::StatusOr<services::Throughput> MeasureBase(services::OfflineEngine& offline, int64_t queries,
                                                 int64_t prompt, int64_t tokens) {
  services::LoadShape load;
  load.queries = queries;
  load.prompt_tokens = prompt;
  load.new_tokens = tokens;
  return services::MeasureThroughput(offline.engine(), offline.spec(), load);
}

}  // namespace ccoe::cli
