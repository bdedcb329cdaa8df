// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/expert_table.h"

#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What the links of one test have in common.
struct Network {
  absl::Mutex mutex;
  std::map<std::string, int> opened ABSL_GUARDED_BY(mutex);  // by address
  std::map<std::string, int> closed ABSL_GUARDED_BY(mutex);
  std::map<std::string, absl::Status> faults
      ABSL_GUARDED_BY(mutex);  // refuse to open, break what is open

  void Break(const std::string& address) {
    absl::MutexLock lock(&mutex);
    faults[address] = absl::UnavailableError("cable cut");
  }
  void Mend(const std::string& address) {
    absl::MutexLock lock(&mutex);
    faults.erase(address);
  }
  absl::Status Fault(const std::string& address) {
    absl::MutexLock lock(&mutex);
    const auto it = faults.find(address);
    return it == faults.end() ? absl::OkStatus() : it->second;
  }
};

// A link that carries nothing.
class StillLink final : public exchange::ActivationLink {
 public:
  StillLink(Network* network, std::string address)
      : network_(*network), address_(std::move(address)) {
    absl::MutexLock lock(&network_.mutex);
    ++network_.opened[address_];
  }
  ~StillLink() override {
    absl::MutexLock lock(&network_.mutex);
    ++network_.closed[address_];
  }
  void Send(exchange::Envelope envelope, exchange::SwapCallback done) override {
    for (const exchange::Swap& swap : envelope.swaps) {
      done(swap.header.id, absl::UnimplementedError("nothing"));
    }
  }
  void CancelSwaps(std::vector<uint64_t>) override {}
  void ReleaseSequence(uint64_t) override {}
  bool healthy() const override { return Health().ok(); }
  std::string WhereIs(uint64_t) const override { return ""; }
  // Once broken it stays so, as real links do.
  absl::Status Health() const override {
    const absl::Status fault = network_.Fault(address_);
    if (!fault.ok()) broken_.store(true);
    return broken_.load() ? absl::UnavailableError("cable cut") : absl::OkStatus();
  }
  void Close() override {}
  std::string Name() const override { return address_; }

 private:
  Network& network_;
  const std::string address_;
  mutable std::atomic<bool> broken_ = false;
};

class ExpertTableTest : public ::testing::Test {
 protected:
  ExpertTableTest() { table_ = std::make_unique<ExpertTable>(Options()); }

  ExpertTableOptions Options() {
    ExpertTableOptions options;
    options.links.open = [this](const std::string& address)
        -> absl::StatusOr<std::unique_ptr<exchange::ActivationLink>> {
      if (absl::Status fault = network_.Fault(address); !fault.ok()) return fault;
      return std::make_unique<StillLink>(&network_, address);
    };
    options.base_fingerprint = [](int32_t first) { return absl::StrCat("base-", first); };
    options.layer_count = 8;
    options.links.retry = absl::Milliseconds(5);
    return options;
  }

  static v1::ExpertPlace* Add(v1::Directive& directive, const std::string& name, int64_t version,
                              const std::vector<std::string>& addresses) {
    v1::ExpertPlace* place = directive.add_experts();
    place->mutable_info()->mutable_expert()->set_name(name);
    place->mutable_info()->mutable_expert()->set_version(version);
    place->mutable_info()->set_first_layer(6);
    place->mutable_info()->set_last_layer(8);
    place->set_base_fingerprint("base-6");
    for (const std::string& address : addresses) {
      v1::WorkerPlace* worker = place->add_workers();
      worker->set_worker_id("worker-" + address);
      worker->set_address(address);
      worker->set_numerics("cpu/1");
    }
    return place;
  }

  // Finds the expert once it is there.
  std::shared_ptr<const engine::ExpertBinding> Await(const ExpertRef& expert) {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    absl::Status last;
    while (absl::Now() < deadline) {
      auto binding = table_->Find(expert);
      if (binding.ok() && (*binding)->link != nullptr) return *binding;
      last = StatusOf(expert);
      absl::SleepFor(absl::Milliseconds(1));
    }
    ADD_FAILURE() << last;
    return nullptr;
  }

  // Updates and waits until every link of the directive is open: an expert for each address, which
  // nobody asks for, can be bound.
  void UpdateAndOpen(v1::Directive directive) {
    std::set<std::string> addresses;
    for (const v1::ExpertPlace& place : directive.experts()) {
      for (const v1::WorkerPlace& worker : place.workers()) addresses.insert(worker.address());
    }
    for (const std::string& address : addresses) Add(directive, "at-" + address, 1, {address});
    table_->Update(directive);
    for (const std::string& address : addresses) Await({"at-" + address, 1});
  }

  // Why it cannot be bound to a worker.
  absl::Status StatusOf(const ExpertRef& expert) {
    const auto binding = table_->Find(expert);
    if (!binding.ok() || (*binding)->link != nullptr) return binding.status();
    return table_->FindReplica(**binding, {}).status();
  }

  absl::Status AwaitStatus(const ExpertRef& expert, absl::StatusCode code,
                           const std::string& message) {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    absl::Status last;
    while (absl::Now() < deadline) {
      last = StatusOf(expert);
      if (last.code() == code && HasPart(last, message)) return absl::OkStatus();
      absl::SleepFor(absl::Milliseconds(1));
    }
    return last.ok() ? absl::UnknownError("it was found") : last;
  }

  static bool HasPart(const absl::Status& status, const std::string& part) {
    return std::string(status.message()).find(part) != std::string::npos;
  }

  // Waits until the link to the replica that shall be chosen is open.
  void AwaitReplica(const engine::ExpertBinding& lost, const engine::LinkList& avoid,
                    const std::string& address) {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (absl::Now() < deadline) {
      const auto replica = table_->FindReplica(lost, avoid);
      if (replica.ok() && (*replica)->link->Name() == address) return;
      absl::SleepFor(absl::Milliseconds(1));
    }
    ADD_FAILURE() << address << " was never chosen";
  }

  bool AwaitClosed(const std::string& address, int count) {
    absl::MutexLock lock(&network_.mutex);
    const auto closed = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(network_.mutex) {
      return network_.closed[address] >= count;
    };
    return network_.mutex.AwaitWithTimeout(absl::Condition(&closed), absl::Minutes(1));
  }

  Network network_;
  std::unique_ptr<ExpertTable> table_;
};

TEST_F(ExpertTableTest, FindsTheVersionAskedForOrTheNewest) {
  v1::Directive directive;
  Add(directive, "math", 2, {"b"});
  Add(directive, "math", 10, {"a"});
  Add(directive, "matheux", 11, {"a"});
  table_->Update(directive);
  EXPECT_EQ(Await({"math", 2})->link->Name(), "b");
  const auto newest = Await({"math", 0});
  EXPECT_EQ(newest->expert, (ExpertRef{"math", 10}));
  EXPECT_EQ(newest->layers, (model::LayerRange{6, 8}));
}

TEST_F(ExpertTableTest, NamesTheExpertsThereAreForAnUnknownOne) {
  EXPECT_THAT(table_->Find({"law", 1}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("there are: none")));
  v1::Directive directive;
  Add(directive, "math", 2, {"a"});
  table_->Update(directive);
  EXPECT_THAT(
      table_->Find({"law", 1}),
      StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("\"law@1\""), HasSubstr("math@2"))));
}

TEST_F(ExpertTableTest, SpreadsQueriesOverReplicasByWhatTheyCarry) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a", "b"});
  UpdateAndOpen(directive);
  std::vector<std::shared_ptr<const engine::ExpertBinding>> running;
  std::map<std::string, int> queries;
  for (int i = 0; i < 200; ++i) {
    running.push_back(Await({"math", 1}));
    ++queries[running.back()->link->Name()];
  }
  EXPECT_LE(std::abs(queries["a"] - queries["b"]), 1);
  // Where queries end, new ones go.
  for (auto& binding : running) {
    if (binding->link->Name() == "a") binding.reset();
  }
  EXPECT_EQ(Await({"math", 1})->link->Name(), "a");
}

TEST_F(ExpertTableTest, ABindingSaysWhoTheWorkerIs) {
  v1::Directive directive;
  v1::ExpertPlace* place = Add(directive, "math", 1, {"a"});
  place->set_weights_digest("abcd");
  place->set_kv_tokens(1024);
  table_->Update(directive);
  const auto binding = Await({"math", 1});
  EXPECT_EQ(binding->worker_id, "worker-a");
  EXPECT_EQ(binding->numerics, "cpu/1");
  EXPECT_EQ(binding->weights_digest, "abcd");
  EXPECT_EQ(binding->kv_tokens, 1024);
}

TEST_F(ExpertTableTest, AReplicaIsAnotherWorkerOfTheSameNumericsIfThereIsOne) {
  v1::Directive directive;
  v1::ExpertPlace* place = Add(directive, "math", 1, {"a", "b", "c"});
  place->mutable_workers(1)->set_numerics("cpu/2");
  UpdateAndOpen(directive);
  const auto lost = Await({"math", 1});
  EXPECT_EQ(lost->link->Name(), "a");
  AwaitReplica(*lost, {lost->link}, "c");
  const auto replica = table_->FindReplica(*lost, {lost->link});
  AwaitReplica(*lost, {lost->link, (*replica)->link}, "b");
  const auto other = table_->FindReplica(*lost, {lost->link, (*replica)->link});
  EXPECT_THAT(table_->FindReplica(*lost, {lost->link, (*replica)->link, (*other)->link}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("it failed this query before")));
}

TEST_F(ExpertTableTest, OtherWeightsOrNoWorkerMakeNoReplica) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a", "b"})->set_weights_digest("abcd");
  table_->Update(directive);
  const auto lost = Await({"math", 1});
  directive.mutable_experts(0)->set_weights_digest("efgh");
  table_->Update(directive);
  EXPECT_THAT(table_->FindReplica(*lost, {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("other weights")));
  table_->Update(v1::Directive());
  EXPECT_THAT(table_->FindReplica(*lost, {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no worker holds")));
}

TEST_F(ExpertTableTest, OneLinkServesAllExpertsOfAWorker) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a"});
  Add(directive, "law", 1, {"a"});
  table_->Update(directive);
  EXPECT_EQ(Await({"math", 1})->link, Await({"law", 1})->link);
}

TEST_F(ExpertTableTest, SaysWhyNoLinkWorksAndTriesAgain) {
  network_.Break("a");
  v1::Directive directive;
  Add(directive, "math", 1, {"a"});
  table_->Update(directive);
  EXPECT_OK(AwaitStatus({"math", 1}, absl::StatusCode::kUnavailable, "a: cable cut"));
  network_.Mend("a");
  EXPECT_NE(Await({"math", 1}), nullptr);
}

TEST_F(ExpertTableTest, AQueryStaysWhereItIsUnlessAnotherWorkerCarriesLess) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a", "b"});
  UpdateAndOpen(directive);
  std::map<std::string, std::shared_ptr<const engine::ExpertBinding>> bound;
  while (bound.size() < 2) {
    auto binding = Await({"math", 1});
    bound.emplace(binding->link->Name(), binding);
  }
  for (const auto& [name, binding] : bound) {
    EXPECT_EQ((*table_->FindReplica(*binding, {}))->link->Name(), name);
  }
  const auto second = *table_->FindReplica(*bound["b"], {bound["a"]->link});
  const auto third = *table_->FindReplica(*bound["b"], {bound["a"]->link});
  EXPECT_EQ((*table_->FindReplica(*bound["b"], {}))->link->Name(), "a");
  EXPECT_EQ((*table_->FindReplica(*bound["a"], {}))->link->Name(), "a");
}

TEST_F(ExpertTableTest, AQueryGoesToNoWorkerWithLessKvThanItWasTakenInFor) {
  v1::Directive directive;
  v1::ExpertPlace* place = Add(directive, "math", 1, {"a"});
  place->set_kv_tokens(4096);
  place->mutable_workers(0)->set_kv_tokens(4096);
  table_->Update(directive);
  const auto bound = Await({"math", 1});
  directive.Clear();
  place = Add(directive, "math", 1, {"a", "small", "large"});
  place->set_kv_tokens(1024);
  place->mutable_workers(0)->set_kv_tokens(4096);
  place->mutable_workers(1)->set_kv_tokens(1024);
  place->mutable_workers(2)->set_kv_tokens(8192);
  UpdateAndOpen(directive);
  AwaitReplica(*bound, {bound->link}, "large");
  const auto moved = *table_->FindReplica(*bound, {bound->link});
  EXPECT_EQ(moved->kv_tokens, 4096);
  EXPECT_THAT(table_->FindReplica(*bound, {bound->link, moved->link}),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("small: its KV cache holds 1024"), HasSubstr("4096"))));
}

TEST_F(ExpertTableTest, TheNewestVersionThatSomebodyHoldsComesFirst) {
  v1::Directive directive;
  Add(directive, "math", 2, {"a"});
  Add(directive, "math", 3, {});
  Add(directive, "law", 1, {});
  Add(directive, "law", 2, {});
  table_->Update(directive);
  EXPECT_EQ(Await({"math", 0})->expert, (ExpertRef{"math", 2}));
  ASSERT_OK_AND_ASSIGN(const auto law, table_->Find({"law", 0}));
  EXPECT_EQ(law->expert, (ExpertRef{"law", 2}));
}

TEST_F(ExpertTableTest, AnExpertWithoutAWorkerIsBoundLater) {
  network_.Break("a");
  v1::Directive directive;
  v1::ExpertPlace* place = Add(directive, "math", 1, {"a"});
  place->set_weights_digest("abcd");
  place->set_kv_tokens(1024);
  table_->Update(directive);
  ASSERT_OK_AND_ASSIGN(const auto binding, table_->Find({"math", 1}));
  EXPECT_EQ(binding->link, nullptr);
  EXPECT_EQ(binding->layers, (model::LayerRange{6, 8}));
  EXPECT_EQ(binding->kv_tokens, 1024);
  network_.Mend("a");
  AwaitReplica(*binding, {}, "a");
}

TEST_F(ExpertTableTest, WeightsThatOneSideDoesNotKnowAreNotOthers) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a"})->set_weights_digest("abcd");
  table_->Update(directive);
  const auto bound = Await({"math", 1});
  directive.mutable_experts(0)->clear_weights_digest();
  table_->Update(directive);
  AwaitReplica(*bound, {}, "a");
}

TEST_F(ExpertTableTest, ReplacesALinkThatBroke) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a"});
  table_->Update(directive);
  std::shared_ptr<const engine::ExpertBinding> before = Await({"math", 1});
  network_.Break("a");
  EXPECT_OK(AwaitStatus({"math", 1}, absl::StatusCode::kUnavailable, "cable cut"));
  network_.Mend("a");
  const auto after = Await({"math", 1});
  EXPECT_NE(after->link, before->link);
  before.reset();
  EXPECT_TRUE(AwaitClosed("a", 1));
}

TEST_F(ExpertTableTest, ClosesALinkOfAWorkerThatLeftAfterItsLastQuery) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a"});
  table_->Update(directive);
  std::shared_ptr<const engine::ExpertBinding> running = Await({"math", 1});
  table_->Update(v1::Directive());
  EXPECT_THAT(table_->Find({"math", 1}), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(running->link->Name(), "a");
  running.reset();
  EXPECT_TRUE(AwaitClosed("a", 1));
}

TEST_F(ExpertTableTest, RefusesAnExpertOfAnotherBase) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a"})->set_base_fingerprint("other");
  table_->Update(directive);
  EXPECT_OK(AwaitStatus({"math", 1}, absl::StatusCode::kFailedPrecondition, "found other"));
}

TEST_F(ExpertTableTest, RefusesAnExpertWithLayersThatTheModelHasNot) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a"})->mutable_info()->set_last_layer(9);
  table_->Update(directive);
  EXPECT_OK(AwaitStatus({"math", 1}, absl::StatusCode::kFailedPrecondition, "[0, 8)"));
}

TEST_F(ExpertTableTest, RefusesAnExpertWhoseHeadItDoesNotHave) {
  v1::Directive directive;
  Add(directive, "math", 1, {"a"})->mutable_info()->set_owns_head(true);
  table_->Update(directive);
  EXPECT_OK(AwaitStatus({"math", 1}, absl::StatusCode::kFailedPrecondition, "--bundle"));
}

// Two MoE layers, 1 and 3, of four experts; expert 0 of layer 1 is here.
class FfnDirectoryTest : public ExpertTableTest {
 protected:
  FfnDirectoryTest() {
    ExpertTableOptions options = Options();
    for (const int32_t layer : {1, 3}) {
      for (int32_t expert = 0; expert < 4; ++expert) options.ffn_experts.Add(layer, expert);
    }
    options.ffn_here.Add(1, 0);
    table_ = std::make_unique<ExpertTable>(std::move(options));
  }

  static void Place(v1::Directive& directive, const std::string& worker,
                    const std::vector<int32_t>& experts) {
    v1::FfnPlace* place = directive.add_ffn_places();
    place->set_worker_id(worker);
    place->set_address("at-" + worker);
    for (const int32_t layer : {1, 3}) {
      v1::FfnLayer* entry = place->mutable_shard()->add_layers();
      entry->set_layer(layer);
      entry->mutable_experts()->Add(experts.begin(), experts.end());
    }
  }

  // The first table that has these workers.
  std::shared_ptr<const engine::FfnTable> AwaitPeers(const std::vector<std::string>& workers) {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (absl::Now() < deadline) {
      auto table = table_->Table();
      std::vector<std::string> found;
      for (const engine::FfnPeer& peer : table->peers) found.push_back(peer.worker_id);
      if (found == workers) return table;
      absl::SleepFor(absl::Milliseconds(1));
    }
    ADD_FAILURE() << "no such table";
    return table_->Table();
  }
};

TEST_F(FfnDirectoryTest, StartsWithWhatIsHere) {
  const auto table = table_->Table();
  ASSERT_EQ(table->layers(), 4);
  EXPECT_EQ(table->experts(0), 0);
  EXPECT_THAT(table->HoldersOf(1, 0), ElementsAre(engine::FfnTable::kHere));
  EXPECT_THAT(table->HoldersOf(1, 1), ::testing::IsEmpty());
  EXPECT_EQ(table_->Table(), table) << "nothing changed";
}

TEST_F(FfnDirectoryTest, ListsWorkersOnceTheirLinksAreOpen) {
  v1::Directive directive;
  Place(directive, "a", {0, 1, 2});
  Place(directive, "b", {2, 3});
  table_->Update(directive);
  const auto table = AwaitPeers({"a", "b"});
  EXPECT_EQ(table->peers[1].link->Name(), "at-b");
  EXPECT_THAT(table->HoldersOf(1, 0), ElementsAre(engine::FfnTable::kHere, 0));
  EXPECT_THAT(table->HoldersOf(1, 2), ElementsAre(0, 1)) << "replicas";
  EXPECT_THAT(table->HoldersOf(3, 3), ElementsAre(1));
}

TEST_F(FfnDirectoryTest, ABrokenLinkLeavesTheTableAtOnceAndComesBack) {
  v1::Directive directive;
  Place(directive, "a", {0, 1, 2, 3});
  Place(directive, "b", {3});
  table_->Update(directive);
  const auto before = AwaitPeers({"a", "b"});
  const uint64_t epoch = table_->epoch();
  network_.Break("at-a");
  const auto after = table_->Table();
  ASSERT_EQ(after->peers.size(), 1u);
  EXPECT_EQ(after->peers[0].worker_id, "b");
  EXPECT_THAT(after->HoldersOf(3, 3), ElementsAre(0));
  EXPECT_THAT(after->HoldersOf(3, 1), ::testing::IsEmpty());
  EXPECT_GT(table_->epoch(), epoch);
  EXPECT_EQ(before->peers.size(), 2u) << "a table in use stays as it is";
  network_.Mend("at-a");
  AwaitPeers({"a", "b"});
}

TEST_F(FfnDirectoryTest, AWorkerThatLeftIsForgottenAndItsLinkCloses) {
  v1::Directive directive;
  Place(directive, "a", {1});
  table_->Update(directive);
  AwaitPeers({"a"});
  table_->Update(v1::Directive());
  EXPECT_TRUE(table_->Table()->peers.empty());
  EXPECT_TRUE(AwaitClosed("at-a", 1));
}

TEST_F(FfnDirectoryTest, AShardThatIsNoneIsPassedOver) {
  v1::Directive directive;
  Place(directive, "a", {-1});
  Place(directive, "b", {1, 99});
  table_->Update(directive);
  const auto table = AwaitPeers({"b"});
  EXPECT_EQ(table->experts(1), 4);
}

TEST_F(FfnDirectoryTest, AnAddressThatDoesNotAnswerDelaysNoOther) {
  absl::Notification answer;
  ExpertTableOptions options = Options();
  const auto open = options.links.open;
  options.links.open = [&](const std::string& address) {
    if (address == "at-dead") answer.WaitForNotification();
    return open(address);
  };
  for (int32_t expert = 0; expert < 4; ++expert) options.ffn_experts.Add(1, expert);
  table_ = std::make_unique<ExpertTable>(std::move(options));
  v1::Directive directive;
  Place(directive, "dead", {0});
  Place(directive, "lively", {1});
  table_->Update(directive);
  AwaitPeers({"lively"});
  // Nor those that come later.
  Place(directive, "newcomer", {2});
  table_->Update(directive);
  AwaitPeers({"lively", "newcomer"});
  answer.Notify();
  AwaitPeers({"dead", "lively", "newcomer"});
  table_.reset();  // before what its links are opened with
}

}  // namespace
}  // namespace ccoe::services
