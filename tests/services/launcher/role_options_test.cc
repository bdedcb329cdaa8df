// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/role_options.h"

#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::testing::HasSubstr;

// Each function below goes through all fields of a struct, by structured bindings: a field that is
// added does not compile here, and one that is given to `f` without a flag fails the round trip.
// What has no flag on purpose is named by the last line.

template <typename F>
void EachField(F& f, ProcessOptions& options) {
  auto& [http, drain_timeout, announce_fd] = options;
  f(http), f(drain_timeout);
  (void)announce_fd;  // a descriptor of one process: of the command line alone
}

template <typename F>
void EachField(F& f, ComputeOptions& options) {
  auto& [device, math, numerics] = options;
  f(device), f(math), f(numerics);
}

template <typename F>
void EachField(F& f, RouterOptions& options) {
  auto& [rules_file, placement_file, placement, model_folder, serve, lease] = options;
  f(rules_file), f(placement_file), f(model_folder), f(lease);
  auto& [listen, in_process_name, advertise, register_timeout] = serve;
  f.Only(listen);
  (void)placement;                                                 // a child gets it as a file
  (void)in_process_name, (void)advertise, (void)register_timeout;  // a router registers nowhere
}

template <typename F>
void EachField(F& f, ServeOptions& options) {
  auto& [listen, in_process_name, advertise, register_timeout] = options;
  f.Only(listen), f(advertise), f(register_timeout);
  (void)in_process_name;  // of an embedded cluster
}

template <typename F>
void EachField(F& f, engine::MoePolicy& policy) {
  auto& [allow_active_experts, min_active_experts, max_active_experts, allow_masks, allow_forced,
         max_entries] = policy;
  f(allow_active_experts), f(allow_masks), f(allow_forced);
  if (allow_active_experts) {
    f(min_active_experts), f(max_active_experts);
    if (min_active_experts > max_active_experts) std::swap(min_active_experts, max_active_experts);
  }
  (void)max_entries;  // a bound on messages
}

template <typename F>
void EachField(F& f, engine::EngineOptions& options) {
  auto& [kv_tokens, page_tokens, kv_dtype, max_step_tokens, max_prefill_chunk, max_running,
         max_waiting, max_steps_in_flight, wire_dtype, replica_patience, room_patience, hung_after,
         step_patience, combine_on_workers, observer, moe_policy, moe_statistics, clock] = options;
  f(kv_tokens), f(max_step_tokens), f(max_prefill_chunk), f(max_running), f(max_waiting);
  f(wire_dtype), f(replica_patience), f(room_patience), f(combine_on_workers);
  EachField(f, moe_policy);
  (void)page_tokens, (void)max_steps_in_flight, (void)hung_after, (void)step_patience;  // tuned
  (void)kv_dtype, (void)observer, (void)moe_statistics, (void)clock;  // the worker fills them in
}

template <typename F>
void EachField(F& f, experts::UnitHostOptions& options) {
  auto& [layer_experts, ffn_experts, kv_tokens, page_tokens, kv_dtype, max_batch_rows,
         max_batch_pairs, max_waiting_swaps, max_waiting_bytes, numerics, clock] = options;
  f(kv_tokens);
  (void)page_tokens, (void)max_batch_rows, (void)max_batch_pairs;                       // tuned
  (void)max_waiting_swaps, (void)max_waiting_bytes;                                     // bounds
  (void)layer_experts, (void)ffn_experts, (void)kv_dtype, (void)numerics, (void)clock;  // follow
}

template <typename F>
void EachField(F& f, BackboneWorkerOptions& options) {
  auto& [worker_id, model_folder, bundle_folders, without_base_top, router, serve, engine,
         transport] = options;
  f(worker_id), f(model_folder), f(bundle_folders), f(without_base_top), f(router), f(transport);
  EachField(f, serve);
  EachField(f, engine);
}

template <typename F>
void EachField(F& f, ExpertWorkerOptions& options) {
  auto& [worker_id, base_folder, bundle_folders, router, serve, host, transport] = options;
  f(worker_id), f(base_folder), f(bundle_folders), f(router), f(transport);
  EachField(f, serve);
  EachField(f, host);
}

template <typename F>
void EachField(F& f, GatewayOptions& options) {
  auto& [model_folder, router, listen, max_queries, longest_query, probe_interval, probe_timeout] =
      options;
  f(model_folder), f(router), f.Only(listen), f(max_queries), f(longest_query);
  (void)probe_interval, (void)probe_timeout;  // tuned
}

template <typename F>
void EachField(F& f, RouterRole& role) {
  auto& [router, process] = role;
  EachField(f, router);
  EachField(f, process);
}

template <typename F>
void EachField(F& f, BackboneRole& role) {
  auto& [worker, threads, compute, process] = role;
  f(threads);
  EachField(f, worker);
  EachField(f, compute);
  EachField(f, process);
}

template <typename F>
void EachField(F& f, ExpertRole& role) {
  auto& [worker, threads, compute, process] = role;
  f(threads);
  EachField(f, worker);
  EachField(f, compute);
  EachField(f, process);
}

template <typename F>
void EachField(F& f, GatewayRole& role) {
  auto& [gateway, process] = role;
  EachField(f, gateway);
  EachField(f, process);
}

// Gives each field another value than it has.
class Change {
 public:
  explicit Change(uint32_t seed) : random_(seed) {}

  void operator()(std::string& field) {
    Different(field, [this] { return Text(); });
  }
  void operator()(bool& field) { field = !field; }
  void operator()(int& field) {
    Different(field, [this] { return Whole(64); });
  }
  void operator()(int64_t& field) {
    Different(field, [this] { return int64_t{Whole(60000)}; });
  }
  void operator()(absl::Duration& field) {
    Different(field, [this] { return absl::Seconds(Whole(500)) + absl::Nanoseconds(random_()); });
  }
  void operator()(std::vector<std::string>& field) {
    Different(field, [this] {
      std::vector<std::string> list(random_() % 4);
      for (std::string& each : list) each = Text();
      return list;
    });
  }
  void Only(std::vector<std::string>& field) { (*this)(field.at(0)); }
  void operator()(kernels::DType& field) {
    field = field == kernels::DType::kF32 ? kernels::DType::kBF16 : kernels::DType::kF32;
  }
  void operator()(Numerics& field) {
    field = field == Numerics::kFast ? Numerics::kDeterministic : Numerics::kFast;
  }
  void operator()(RowTransport& field) {
    Different(field, [this] { return static_cast<RowTransport>(random_() % 3); });
  }

 private:
  template <typename T, typename Make>
  void Different(T& field, const Make& make) {
    const T before = field;
    while (field == before) field = make();
  }
  int Whole(uint32_t most) { return 1 + static_cast<int>(random_() % most); }
  // Of all bytes, more often of those that mean something in a file.
  std::string Text() {
    constexpr absl::string_view kSpecial = "\"\\'#[]=, \n\t:/-.x1";
    std::string text;
    do {
      text +=
          random_() % 4 == 0 ? static_cast<char>(random_()) : kSpecial[random_() % kSpecial.size()];
    } while (random_() % 8 != 0);
    return text;
  }

  std::mt19937 random_;
};

// All fields as text.
class Write {
 public:
  void operator()(const std::string& field) { absl::StrAppend(&text, field.size(), ":", field); }
  void operator()(const std::vector<std::string>& field) {
    absl::StrAppend(&text, field.size(), "*");
    for (const std::string& each : field) (*this)(each);
  }
  void Only(const std::vector<std::string>& field) { (*this)(field); }
  void operator()(absl::Duration field) {
    absl::StrAppend(&text, absl::FormatDuration(field), " ");
  }
  template <typename Number>
  void operator()(Number field) {
    absl::StrAppend(&text, static_cast<int64_t>(field), " ");
  }

  std::string text;
};

template <typename Options>
std::string TextOf(Options options) {
  Write write;
  EachField(write, options);
  return write.text;
}

template <typename Options>
class RoleOptionsTest : public ::testing::Test {};
using Roles = ::testing::Types<RouterRole, BackboneRole, ExpertRole, GatewayRole>;
TYPED_TEST_SUITE(RoleOptionsTest, Roles);

TYPED_TEST(RoleOptionsTest, OptionsComeThroughAConfigFileAsTheyAre) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    TypeParam options;
    Change change(seed);
    EachField(change, options);
    // Twice, so that a switch is seen in both positions.
    if (seed % 2 == 0) EachField(change, options);
    const std::string text = ConfigTextOf(options);
    ASSERT_OK_AND_ASSIGN(const auto sections, ParseConfig(text, "f"));
    ASSERT_EQ(sections.size(), 1u);
    EXPECT_EQ(sections[0].name, KindName(KindOf(options)));
    TypeParam read;
    FlagTable flags = FlagsOf(read);
    ASSERT_OK(ReadConfigSection(sections[0], "f", flags)) << text;
    EXPECT_EQ(TextOf(read), TextOf(options)) << text;
    for (const FlagBinding& flag : flags.flags()) EXPECT_FALSE(flag.required) << flag.name;
  }
}

TYPED_TEST(RoleOptionsTest, TheDefaultsComeThroughToo) {
  TypeParam options;
  ASSERT_OK_AND_ASSIGN(const auto sections, ParseConfig(ConfigTextOf(options), "f"));
  TypeParam read;
  Change change(1);
  EachField(change, read);
  FlagTable flags = FlagsOf(read);
  ASSERT_OK(ReadConfigSection(sections.at(0), "f", flags));
  // What is required has no default, and no key then; an absent bound has none either.
  const auto required = [&](const std::string& name) { return flags.Get(name).required; };
  const FlagTable expected = FlagsOf(options);
  for (const FlagBinding& flag : expected.flags()) {
    if (!required(flag.name) && !flag.get().empty()) {
      EXPECT_EQ(flags.Get(flag.name).get(), flag.get()) << flag.name;
    }
  }
}

TEST(RolePartsTest, NamesKindsAndAddresses) {
  BackboneRole backbone;
  backbone.worker.worker_id = "b7";
  RoleOptions role = backbone;
  EXPECT_EQ(NameOf(role), "b7");
  EXPECT_EQ(KindName(KindOf(role)), "backbone");
  EXPECT_EQ(ListenOf(role), std::vector<std::string>{"127.0.0.1:0"});
  SetRouterAddress("there:1", role);
  EXPECT_EQ(std::get<BackboneRole>(role).worker.router, "there:1");
  role = GatewayRole();
  EXPECT_EQ(NameOf(role), "gateway");
  EXPECT_EQ(ListenOf(role), std::vector<std::string>{"127.0.0.1:8001"});
  EXPECT_EQ(ServeOf(role), nullptr);
  EXPECT_EQ(ProcessOf(role).http, "127.0.0.1:8002");
  role = RouterRole();
  EXPECT_EQ(NameOf(role), "router");
  EXPECT_EQ(ServeOf(role)->listen, std::vector<std::string>{"127.0.0.1:8100"});
}

TEST(RolePartsTest, ActiveExpertsAreMinAndMax) {
  engine::EngineOptions engine;
  FlagTable flags = EngineFlags(engine);
  FlagBinding& flag = flags.Get("moe-active-experts");
  EXPECT_TRUE(flag.get().empty());
  for (const char* bounds : {"4", "0:4", "5:4", "a:b", "1:2:3", ""}) {
    EXPECT_THAT(flag.set({bounds}).message(), HasSubstr("expected MIN:MAX")) << bounds;
  }
  ASSERT_OK(flag.set({"2:6"}));
  EXPECT_TRUE(engine.moe_policy.allow_active_experts);
  EXPECT_EQ(engine.moe_policy.min_active_experts, 2);
  EXPECT_EQ(engine.moe_policy.max_active_experts, 6);
}

}  // namespace
}  // namespace ccoe::services
