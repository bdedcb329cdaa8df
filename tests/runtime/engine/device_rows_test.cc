// SPDX-License-Identifier: Apache-2.0
// Layer experts and FFN experts on a device of their own memory, behind links that carry a device's
// rows: the bits of the way through host memory, and no row on the host.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/exchange/local/local_link.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/moe_cluster.h"
#include "tests/testing/piped_links.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::ConnectFunction;
using ::ccoe::testing::EngineCluster;
using ::ccoe::testing::EngineClusterOptions;
using ::ccoe::testing::GoldenModel;
using ::ccoe::testing::GreedyQuery;
using ::ccoe::testing::LoadGolden;
using ::ccoe::testing::MoeCluster;
using ::ccoe::testing::MoeClusterOptions;
using ::ccoe::testing::PipedLinks;
using ::ccoe::testing::RecordedAnswer;
using ::ccoe::testing::TaggedDevice;

constexpr size_t kRoom = size_t{16} << 20;
constexpr char kExpert[] = "math";

template <typename Cluster>
RecordedAnswer Ask(Cluster& cluster, EngineRequest query) {
  AnswerRecorder recorder;
  EXPECT_OK(cluster.engine().Submit(std::move(query), recorder.Sink()).status());
  return recorder.Wait();
}

void ExpectSame(const RecordedAnswer& answer, const RecordedAnswer& expected) {
  EXPECT_OK(answer.status);
  EXPECT_EQ(answer.ids(), expected.ids());
  EXPECT_EQ(answer.logits, expected.logits);
  EXPECT_EQ(answer.hidden, expected.hidden);
}

// What a run copied between host and device, and the rows its swaps carried both ways.
struct Traffic {
  int64_t up = 0, down = 0;
  int64_t sent = 0, returned = 0;  // bytes in f32
};

Traffic Since(const Traffic& start, const TaggedDevice& device,
              const std::vector<exchange::SwapHeader>& headers) {
  Traffic traffic;
  traffic.up = device.uploaded_bytes() - start.up;
  traffic.down = device.downloaded_bytes() - start.down;
  for (const exchange::SwapHeader& header : headers) {
    traffic.sent += header.rows() * header.format.hidden_size * 4;
    traffic.returned += header.returned_rows() * header.format.hidden_size * 4;
  }
  return traffic;
}

Traffic Start(const TaggedDevice& device) {
  return {device.uploaded_bytes(), device.downloaded_bytes(), 0, 0};
}

class LayerExpertRowsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto golden = LoadGolden(std::string("ccoe/") + kExpert);
    ASSERT_OK(golden);
    golden_ = new GoldenModel(*std::move(golden));
  }
  static void TearDownTestSuite() { delete golden_; }

  void Open(EngineClusterOptions options, model::LayerRange layers = {4, 8}) {
    cluster_.reset();
    options.device = &device_;
    options.engine.kv_tokens = 4096;
    ASSERT_OK_AND_ASSIGN(cluster_, EngineCluster::Create(options));
    ASSERT_OK(cluster_->AddExpert(kExpert, kExpert, layers));
  }
  // Behind pipes with `room` for rows on the device.
  void OpenOnDevice(EngineClusterOptions options, size_t room = kRoom,
                    model::LayerRange layers = {4, 8}) {
    cluster_.reset();
    links_ = std::make_unique<PipedLinks>(&device_, room);
    options.connect = [this](exchange::SwapHandler* handler) { return links_->Connect(handler); };
    Open(options, layers);
  }
  static EngineRequest Query(int64_t tokens = 8) {
    EngineRequest query = GreedyQuery(golden_->prompts[0].ids, kExpert, tokens);
    query.prompt_logits = true;
    return query;
  }

  static GoldenModel* golden_;
  TaggedDevice device_;
  std::unique_ptr<PipedLinks> links_;
  std::unique_ptr<EngineCluster> cluster_;
};

GoldenModel* LayerExpertRowsTest::golden_ = nullptr;

TEST_F(LayerExpertRowsTest, NoRowPassesThroughHostMemory) {
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    EngineClusterOptions options;
    options.engine.wire_dtype = wire;
    ASSERT_NO_FATAL_FAILURE(Open(options));
    Traffic start = Start(device_);
    const RecordedAnswer expected = Ask(*cluster_, Query());
    const Traffic host = Since(start, device_, cluster_->link().headers());
    ASSERT_GT(host.sent, 0);

    ASSERT_NO_FATAL_FAILURE(OpenOnDevice(options));
    start = Start(device_);
    ExpectSame(Ask(*cluster_, Query()), expected);
    const Traffic device = Since(start, device_, cluster_->link().headers());
    EXPECT_EQ(device.sent, host.sent);
    // The engine downloads what it sends and uploads what comes back, the runner the other way.
    EXPECT_EQ(host.down - device.down, host.sent + host.returned);
    EXPECT_EQ(host.up - device.up, host.sent + host.returned);
  }
}

TEST_F(LayerExpertRowsTest, LayersBehindTheExpertAndHiddenStatesAreTheSame) {
  const model::LayerRange middle = {2, 6};
  EngineRequest query = Query(4);
  query.prompt_hidden = true;
  ASSERT_NO_FATAL_FAILURE(Open({}, middle));
  const RecordedAnswer expected = Ask(*cluster_, query);
  ASSERT_FALSE(expected.hidden.empty());
  ASSERT_NO_FATAL_FAILURE(OpenOnDevice({}, kRoom, middle));
  ExpectSame(Ask(*cluster_, query), expected);
}

TEST_F(LayerExpertRowsTest, WithoutRoomOnTheDeviceTheBitsAreTheSame) {
  ASSERT_NO_FATAL_FAILURE(Open({}));
  const RecordedAnswer expected = Ask(*cluster_, Query());
  for (const size_t room : {size_t{512}, size_t{3} << 10, size_t{8} << 10}) {
    ASSERT_NO_FATAL_FAILURE(OpenOnDevice({}, room));
    ExpectSame(Ask(*cluster_, Query()), expected);
  }
}

TEST_F(LayerExpertRowsTest, ReplaysAfterLostKvAndLackOfRoomAreTheSame) {
  ASSERT_NO_FATAL_FAILURE(Open({}));
  const RecordedAnswer expected = Ask(*cluster_, Query());
  ASSERT_NO_FATAL_FAILURE(OpenOnDevice({}));
  cluster_->link().SetScript([](int number, const exchange::SwapHeader&) -> absl::Status {
    if (number == 3) return exchange::SwapError(exchange::SwapReason::kKvLost, "restarted");
    if (number == 6) return exchange::SwapError(exchange::SwapReason::kNoPages, "no KV pages");
    return absl::OkStatus();
  });
  const RecordedAnswer answer = Ask(*cluster_, Query());
  EXPECT_OK(answer.status);
  EXPECT_EQ(answer.ids(), expected.ids());
}

TEST_F(LayerExpertRowsTest, ManyQueriesAtOnceGiveBackAllRoom) {
  EngineClusterOptions options;
  options.engine.max_prefill_chunk = 7;
  ASSERT_NO_FATAL_FAILURE(OpenOnDevice(options));
  std::vector<AnswerRecorder> recorders(golden_->prompts.size());
  for (size_t i = 0; i < recorders.size(); ++i) {
    ASSERT_OK(cluster_->engine()
                  .Submit(GreedyQuery(golden_->prompts[i].ids, kExpert), recorders[i].Sink())
                  .status());
  }
  for (size_t i = 0; i < recorders.size(); ++i) {
    const RecordedAnswer answer = recorders[i].Wait();
    EXPECT_OK(answer.status);
    EXPECT_EQ(answer.ids(), golden_->prompts[i].greedy_ids);
  }
  cluster_.reset();
  EXPECT_EQ(links_->memory().free_bytes(), kRoom);
}

TEST_F(LayerExpertRowsTest, ALocalLinkPassesThemOn) {
  ASSERT_NO_FATAL_FAILURE(Open({}));
  const RecordedAnswer expected = Ask(*cluster_, Query());
  ASSERT_OK_AND_ASSIGN(auto memory, exchange::RowMemory::Create(&device_, kRoom));
  EngineClusterOptions options;
  options.connect = [&](exchange::SwapHandler* handler) {
    exchange::LinkOptions link;
    link.memory = memory;
    return exchange::MakeLocalLink(handler, link);
  };
  ASSERT_NO_FATAL_FAILURE(Open(options));
  ExpectSame(Ask(*cluster_, Query()), expected);
  EXPECT_NE(cluster_->link().device_memory(), nullptr);
}

class FfnExpertRowsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto golden = LoadGolden("mixtral-8x2");
    ASSERT_OK(golden);
    golden_ = new GoldenModel(*std::move(golden));
  }
  static void TearDownTestSuite() { delete golden_; }

  // A new cluster; `on_device`: behind pipes with `room`.
  void Open(MoeClusterOptions options, bool on_device, size_t room = kRoom) {
    cluster_.reset();
    options.device = &device_;
    if (options.workers == 0) options.workers = 3;
    links_ = std::make_unique<PipedLinks>(&device_, room);
    if (on_device && !options.connect) {
      options.connect = [this](exchange::SwapHandler* handler) { return links_->Connect(handler); };
    }
    ASSERT_OK_AND_ASSIGN(cluster_, MoeCluster::Create(options));
  }
  static EngineRequest Query(int64_t tokens = 0) {
    EngineRequest query = GreedyQuery(golden_->prompts[0].ids, "", tokens);
    query.prompt_logits = true;
    return query;
  }
  std::vector<exchange::SwapHeader> Headers() const {
    std::vector<exchange::SwapHeader> headers;
    for (int worker = 0; worker < 3; ++worker) {
      for (const exchange::SwapHeader& header : cluster_->link(worker).headers()) {
        headers.push_back(header);
      }
    }
    return headers;
  }

  static GoldenModel* golden_;
  TaggedDevice device_;
  std::unique_ptr<PipedLinks> links_;
  std::unique_ptr<MoeCluster> cluster_;
};

GoldenModel* FfnExpertRowsTest::golden_ = nullptr;

TEST_F(FfnExpertRowsTest, NoRowPassesThroughHostMemory) {
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    for (const bool combine : {false, true}) {
      MoeClusterOptions options;
      options.engine.wire_dtype = wire;
      options.engine.combine_on_workers = combine;
      ASSERT_NO_FATAL_FAILURE(Open(options, false));
      Traffic start = Start(device_);
      const RecordedAnswer expected = Ask(*cluster_, Query());
      const Traffic host = Since(start, device_, Headers());
      ASSERT_GT(host.sent, 0);

      ASSERT_NO_FATAL_FAILURE(Open(options, true));
      start = Start(device_);
      ExpectSame(Ask(*cluster_, Query()), expected);
      const Traffic device = Since(start, device_, Headers());
      EXPECT_EQ(device.sent, host.sent);
      // The runners upload what is sent, the engine what comes back; the engine downloads the rows
      // of each layer once, whatever it sends of them.
      EXPECT_EQ(host.up - device.up, host.sent + host.returned);
      ASSERT_OK_AND_ASSIGN(const model::ModelSpec spec,
                           model::LoadModelSpec(testing::GoldenFolder("mixtral-8x2")));
      const int64_t rows = static_cast<int64_t>(golden_->prompts[0].ids.size());
      EXPECT_EQ(host.down - device.down,
                spec.layer_count() * rows * spec.hidden_size * 4 + host.returned);
    }
  }
}

TEST_F(FfnExpertRowsTest, TokensAndRoomAreTheSameAfterMany) {
  ASSERT_NO_FATAL_FAILURE(Open({}, true));
  for (const auto& prompt : golden_->prompts) {
    const RecordedAnswer answer = Ask(*cluster_, GreedyQuery(prompt.ids, ""));
    EXPECT_OK(answer.status);
    EXPECT_EQ(answer.ids(), prompt.greedy_ids);
  }
  cluster_.reset();
  EXPECT_EQ(links_->memory().free_bytes(), kRoom);
}

TEST_F(FfnExpertRowsTest, WithoutRoomOnTheDeviceTheBitsAreTheSame) {
  ASSERT_NO_FATAL_FAILURE(Open({}, false));
  const RecordedAnswer expected = Ask(*cluster_, Query(4));
  for (const size_t room : {size_t{512}, size_t{4} << 10, size_t{24} << 10}) {
    ASSERT_NO_FATAL_FAILURE(Open({}, true, room));
    ExpectSame(Ask(*cluster_, Query(4)), expected);
  }
}

// Rows that went from the device are sent again from there, or from host memory where the replica's
// link takes no others.
TEST_F(FfnExpertRowsTest, RowsOfABrokenWorkerGoToAReplicaOfEitherKind) {
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    MoeClusterOptions options;
    options.engine.wire_dtype = wire;
    options.holders = [](int32_t, int32_t expert) -> std::vector<int32_t> {
      return {0, 1 + expert % 2};
    };
    ASSERT_NO_FATAL_FAILURE(Open(options, false));
    const RecordedAnswer expected = Ask(*cluster_, Query(4));
    int links = 0;
    options.connect = [&](exchange::SwapHandler* handler) {
      return links++ < 2 ? links_->Connect(handler) : exchange::MakeLocalLink(handler);
    };
    ASSERT_NO_FATAL_FAILURE(Open(options, true));
    cluster_->link(0).SetScript([](int, const exchange::SwapHeader&) {
      return exchange::SwapError(exchange::SwapReason::kLinkBroken, "the worker is gone");
    });
    ExpectSame(Ask(*cluster_, Query(4)), expected);
    EXPECT_GT(cluster_->link(2).headers().size(), 0u);
  }
}

}  // namespace
}  // namespace ccoe::engine
