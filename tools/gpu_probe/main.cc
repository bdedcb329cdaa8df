// SPDX-License-Identifier: Apache-2.0
// gpu_probe: see README.md. Each section runs as a process of this program, in order of importance,
// until the budget is spent.
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tools/gpu_probe/probe.h"
#include "tools/gpu_probe/ranks.h"

namespace ccoe::probe {
namespace {

constexpr int kPassed = 0, kFailed = 1, kUsage = 2, kNotRun = 3;
constexpr double kLeastSeconds = 0.5;  // a section is not begun with less
constexpr absl::Duration kPoll = absl::Milliseconds(20);

constexpr char kUsageText[] =
    "gpu_probe [--budget SECONDS] [--sections A,B] [--sizes small|full] [--tests FILTER]\n"
    "  --budget    seconds for all sections together; 100\n"
    "  --sections  of device, kernels, conformance, bits, matmul, ops, decoder, captured, ranks "
    "(the default) and profiled\n"
    "  --sizes     small: what an emulated GPU does in seconds\n"
    "  --tests     a GoogleTest filter for conformance\n";

struct Flags {
  double budget = 100;
  std::vector<std::string> sections;
  std::string sizes = "full", tests, section, rank;
};

// False with `error`.
bool Parse(int argc, char** argv, Flags& flags, std::string& error) {
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    bool good = i + 1 < argc;
    if (name == "--budget") {
      good = good && absl::SimpleAtod(value, &flags.budget) && flags.budget > 0 &&
             flags.budget <= 3600;
    } else if (name == "--sections") {
      flags.sections = absl::StrSplit(value, ',', absl::SkipEmpty());
    } else if (name == "--sizes") {
      flags.sizes = value;
      good = value == "small" || value == "full";
    } else if (name == "--tests") {
      flags.tests = value;
    } else if (name == "--section") {
      flags.section = value;
    } else if (name == "--rank") {
      flags.rank = value;
    } else {
      good = false;
    }
    if (!good) {
      error = absl::StrCat("unexpected: ", name, " ", value);
      return false;
    }
  }
  return true;
}

const Section* Find(absl::string_view name) {
  for (const Section& section : Sections()) {
    if (name == section.name) return &section;
  }
  return nullptr;
}

// The process of one section.
int RunSection(const Flags& flags) {
  const Section* section = Find(flags.section);
  if (section == nullptr) return kUsage;
  ProbeOptions options;
  options.small = flags.sizes == "small";
  options.deadline = absl::Now() + absl::Seconds(flags.budget);
  options.tests = flags.tests;
  Probe probe(section->name, options);
  const absl::Status status = section->run(probe);
  // What is not there was not run; anything else is wrong.
  if (absl::IsUnimplemented(status) || absl::IsNotFound(status)) {
    probe.Say({{"not_run", std::string(status.message())}});
    return probe.failed() ? kFailed : kNotRun;
  }
  if (!status.ok()) probe.Fail("section", status.ToString());
  return probe.failed() ? kFailed : kPassed;
}

// Its exit code; -1 where it was killed at the deadline, -2 where it died by a signal (in
// `signal`).
int Await(pid_t child, absl::Time deadline, int& signal) {
  int status = 0;
  while (true) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) break;
    if (ended < 0) return kFailed;
    if (absl::Now() > deadline) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return -1;
    }
    absl::SleepFor(kPoll);
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  signal = WTERMSIG(status);
  return -2;
}

class Run {
 public:
  explicit Run(const Flags& flags)
      : flags_(flags), deadline_(absl::Now() + absl::Seconds(flags.budget)) {}

  void Add(const Section& section) {
    const double left = absl::ToDoubleSeconds(deadline_ - absl::Now());
    if (left < kLeastSeconds) return static_cast<void>(not_run_.push_back(section.name));
    const double seconds = std::min(left, flags_.sizes == "small" ? left : section.most_seconds);
    pid_t child = 0;
    if (!Start(section, seconds, child)) return static_cast<void>(failed_.push_back(section.name));
    int signal = 0;
    // It ends by itself at its deadline where it looks; killed where it does not.
    const int code = Await(child, absl::Now() + absl::Seconds(seconds + 2), signal);
    if (code == kNotRun) return static_cast<void>(not_run_.push_back(section.name));
    if (code == kPassed) return;
    failed_.push_back(section.name);
    if (code == -1) Died(section, absl::StrCat("did not end within ", seconds, " s"));
    if (code == -2) Died(section, absl::StrCat("died: ", strsignal(signal)));
  }

  int End() const {
    Line line = {{"section", "end"}, {"failed", failed_}, {"not_run", not_run_}};
    std::cout << line.dump() << std::endl;
    return !failed_.empty() ? kFailed : not_run_.empty() ? kPassed : kNotRun;
  }

 private:
  bool Start(const Section& section, double seconds, pid_t& child) const {
    std::vector<std::string> words = {"gpu_probe",           "--section", section.name, "--budget",
                                      absl::StrCat(seconds), "--sizes",   flags_.sizes};
    if (!flags_.tests.empty()) words.insert(words.end(), {"--tests", flags_.tests});
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    return posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments.data(), environ) == 0;
  }

  static void Died(const Section& section, const std::string& error) {
    const Line line = {{"section", section.name}, {"ok", false}, {"error", error}};
    std::cout << line.dump() << std::endl;
  }

  const Flags& flags_;
  const absl::Time deadline_;
  std::vector<std::string> failed_, not_run_;
};

int Main(int argc, char** argv) {
  Flags flags;
  std::string error;
  if (!Parse(argc, argv, flags, error)) {
    std::cerr << "gpu_probe: " << error << "\n" << kUsageText;
    return kUsage;
  }
  // Whoever started this process is gone: so is the reason to go on.
  if (!flags.rank.empty() || !flags.section.empty()) prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!flags.rank.empty()) return RunRank(flags.rank);
  if (!flags.section.empty()) return RunSection(flags);
  for (const std::string& name : flags.sections) {
    if (Find(name) != nullptr) continue;
    std::cerr << "gpu_probe: no section " << name << "\n" << kUsageText;
    return kUsage;
  }
  Run run(flags);
  for (const Section& section : Sections()) {
    const bool asked = std::find(flags.sections.begin(), flags.sections.end(), section.name) !=
                       flags.sections.end();
    if (asked || (flags.sections.empty() && section.by_default)) run.Add(section);
  }
  return run.End();
}

}  // namespace
}  // namespace ccoe::probe

int main(int argc, char** argv) { return ccoe::probe::Main(argc, argv); }
