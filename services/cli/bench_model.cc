#include "services/cli/bench_model.h"

#include <stdlib.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ccoe::cli {

void AddBenchModelFlags(CLI::App* command, BenchModelFlags& flags) {
  AddFlag(command, "--dir", flags.folder,
          "Folder for the random models; default: a temporary one.");
  AddSwitch(command, "--keep", flags.keep, "Keep the models.");
  AddFlag(command, "--threads", flags.threads, "Compute threads; 0 takes all cores.")
      .Range(0, 1024);
  AddFlag(command, "--hidden", flags.hidden, "Width of the model.");
  AddFlag(command, "--layers", flags.layers, "Decoder layers.");
  AddFlag(command, "--heads", flags.heads, "Query heads.");
  AddFlag(command, "--kv-heads", flags.kv_heads, "Key and value heads.");
  AddFlag(command, "--intermediate", flags.intermediate, "Width of the feed-forward block.");
  AddFlag(command, "--vocabulary", flags.vocabulary, "Tokens in the vocabulary.");
  AddFlag(command, "--dtype", flags.dtype, "Type of the weights.").OneOf({"bf16", "f16", "f32"});
  AddComputeFlags(command, flags.compute);
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
  return std::unique_ptr<BenchFolder>(new BenchFolder(std::move(path), flags.keep));
}

BenchFolder::~BenchFolder() {
  std::error_code ignored;
  if (!keep_) std::filesystem::remove_all(path_, ignored);
}

}  // namespace ccoe::cli
