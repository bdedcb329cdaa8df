// SPDX-License-Identifier: Apache-2.0
// Both ends of links over fake communicators: what the device's thread makes of timing, death and
// broken words. The order of rounds itself is link_rounds_test.cc's.
#include "runtime/exchange/nccl/device_thread.h"

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/nccl/fake_communicator.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(60);  // a test that waits so long has failed

std::string Bytes(size_t size, int seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>(i * 31 + static_cast<size_t>(seed));
  }
  return bytes;
}

CarriedRows Host(std::string bytes) {
  CarriedRows rows;
  rows.bytes = std::move(bytes);
  return rows;
}

// What became of a transfer.
class Outcome {
 public:
  RowCarrier::Done Keep() {
    return [shared = shared_](absl::StatusOr<CarriedRows> rows) {
      shared->result = std::move(rows);
      shared->over.Notify();
    };
  }
  absl::StatusOr<CarriedRows> Await() {
    if (!shared_->over.WaitForNotificationWithTimeout(kPatience)) {
      return absl::InternalError("the test waited in vain");
    }
    return std::move(shared_->result);
  }
  bool over() const { return shared_->over.HasBeenNotified(); }

 private:
  struct Shared {
    absl::Notification over;
    absl::StatusOr<CarriedRows> result = absl::UnknownError("");
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// One link with its two ends on two devices.
class DeviceThreadTest : public ::testing::Test {
 protected:
  struct Link {
    std::shared_ptr<FakeWire> wire = std::make_shared<FakeWire>();
    std::unique_ptr<RowCarrier> ends[2];
    absl::Mutex mutex;
    // Notes on their way to an end, while they are held back.
    std::vector<RowCarrier::Note> held[2] ABSL_GUARDED_BY(mutex);
    bool hold ABSL_GUARDED_BY(mutex) = false;
  };

  static DeviceThread::Options Options() {
    DeviceThread::Options options;
    options.patience = absl::Milliseconds(50);
    return options;
  }

  // What `end` says goes to the other one.
  static RowCarrier::SendNote NotesFrom(Link& link, int end) {
    return [&link, end](const RowCarrier::Note& note) {
      {
        absl::MutexLock lock(&link.mutex);
        if (link.hold || link.ends[1 - end] == nullptr) {
          link.held[1 - end].push_back(note);
          return;
        }
      }
      link.ends[1 - end]->Take(note);
    };
  }
  static void LetGo(Link& link) {
    for (int end = 0; end < 2; ++end) {
      std::vector<RowCarrier::Note> notes;
      {
        absl::MutexLock lock(&link.mutex);
        link.hold = false;
        notes.swap(link.held[end]);
      }
      for (const RowCarrier::Note& note : notes) link.ends[end]->Take(note);
    }
  }

  absl::StatusOr<std::unique_ptr<RowCarrier>> Open(Link& link, int end, absl::Duration timeout) {
    return devices_[end].Open(
        [wire = link.wire, end]() -> std::unique_ptr<Communicator> {
          return std::make_unique<FakeCommunicator>(wire, end);
        },
        /*leads=*/end == 0, timeout, NotesFrom(link, end));
  }
  void Connect(Link& link) {
    std::thread other([&] {
      auto opened = Open(link, 1, kPatience);
      ASSERT_OK(opened.status());
      link.ends[1] = *std::move(opened);
    });
    auto opened = Open(link, 0, kPatience);
    other.join();
    ASSERT_OK(opened.status());
    link.ends[0] = *std::move(opened);
  }

  DeviceThread devices_[2] = {DeviceThread(Options()), DeviceThread(Options())};
  Link link_;
};

TEST_F(DeviceThreadTest, RowsOfBothWaysGetThroughAtOnceWhateverTheirSize) {
  Connect(link_);
  for (const size_t size : {size_t{1}, size_t{8192}, size_t{4} << 20, (size_t{9} << 20) + 3}) {
    Outcome sent[2], received[2];
    for (int end = 0; end < 2; ++end) {
      link_.ends[1 - end]->Receive(Host(std::string(size, '\0')), received[end].Keep());
      link_.ends[end]->Send(Host(Bytes(size, end)), sent[end].Keep());
    }
    for (int end = 0; end < 2; ++end) {
      EXPECT_OK(sent[end].Await().status());
      const absl::StatusOr<CarriedRows> rows = received[end].Await();
      ASSERT_OK(rows.status());
      EXPECT_TRUE(rows->bytes == Bytes(size, end)) << size;
    }
  }
}

TEST_F(DeviceThreadTest, ManyLinksShareTheThreadsOfTwoDevices) {
  constexpr int kLinks = 8, kTransfers = 50;
  std::vector<std::unique_ptr<Link>> links;
  for (int i = 0; i < kLinks; ++i) Connect(*links.emplace_back(std::make_unique<Link>()));
  std::vector<Outcome> received(2 * kLinks * kTransfers);
  for (int t = 0; t < kTransfers; ++t) {
    for (int i = 0; i < 2 * kLinks; ++i) {
      Link& link = *links[static_cast<size_t>(i / 2)];
      const size_t size = 1 + static_cast<size_t>(t * 977 % 5000);
      link.ends[1 - i % 2]->Receive(Host(std::string(size, '\0')),
                                    received[static_cast<size_t>(t * 2 * kLinks + i)].Keep());
      link.ends[i % 2]->Send(Host(Bytes(size, t + i)), [](absl::StatusOr<CarriedRows>) {});
    }
  }
  for (int t = 0; t < kTransfers; ++t) {
    for (int i = 0; i < 2 * kLinks; ++i) {
      const auto rows = received[static_cast<size_t>(t * 2 * kLinks + i)].Await();
      ASSERT_OK(rows.status());
      EXPECT_EQ(rows->bytes, Bytes(1 + static_cast<size_t>(t * 977 % 5000), t + i));
    }
  }
}

TEST_F(DeviceThreadTest, ATransferWaitsAsLongAsThePeerHasNotPosted) {
  Connect(link_);
  {
    absl::MutexLock lock(&link_.mutex);
    link_.hold = true;
  }
  Outcome sent, received;
  link_.ends[1]->Receive(Host("...."), received.Keep());
  link_.ends[0]->Send(Host("rows"), sent.Keep());
  absl::SleepFor(absl::Milliseconds(200));  // several times the patience
  EXPECT_FALSE(sent.over());
  LetGo(link_);
  EXPECT_OK(sent.Await().status());
  EXPECT_EQ(received.Await()->bytes, "rows");
}

TEST_F(DeviceThreadTest, ARoundThatBothPostedAndThatIsNotThroughEndsTheLinkAlone) {
  Link other;
  Connect(link_);
  Connect(other);
  link_.wire->Cut();
  Outcome sent, received;
  link_.ends[1]->Receive(Host("...."), received.Keep());
  link_.ends[0]->Send(Host("rows"), sent.Keep());
  EXPECT_THAT(sent.Await(), StatusIs(absl::StatusCode::kUnavailable,
                                     HasSubstr("round 1 is not through 50ms after both ends")));
  EXPECT_THAT(received.Await(), StatusIs(absl::StatusCode::kUnavailable));
  Outcome late;
  link_.ends[0]->Send(Host("more"), late.Keep());
  EXPECT_THAT(late.Await(), StatusIs(absl::StatusCode::kUnavailable));
  Outcome arrived;
  other.ends[1]->Receive(Host("...."), arrived.Keep());
  other.ends[0]->Send(Host("rows"), [](absl::StatusOr<CarriedRows>) {});
  EXPECT_EQ(arrived.Await()->bytes, "rows");
}

TEST_F(DeviceThreadTest, OpeningALinkDoesNotWaitForOneWhosePeerIsAway) {
  Link away;
  Connect(link_);
  {
    absl::MutexLock lock(&link_.mutex);
    link_.hold = true;
  }
  Outcome sent;
  link_.ends[0]->Send(Host("rows"), sent.Keep());  // posted, and it spins
  std::thread opening([&] {
    EXPECT_THAT(Open(away, 0, absl::Milliseconds(100)),
                StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("did not come")));
  });
  Link fresh;
  Connect(fresh);
  Outcome arrived;
  fresh.ends[1]->Receive(Host("...."), arrived.Keep());
  fresh.ends[0]->Send(Host("rows"), [](absl::StatusOr<CarriedRows>) {});
  EXPECT_EQ(arrived.Await()->bytes, "rows");
  EXPECT_FALSE(sent.over());
  opening.join();
}

TEST_F(DeviceThreadTest, AnAbortEndsWhatWaitsAndTheDestructorWaitsForIt) {
  Connect(link_);
  Outcome waiting;
  link_.ends[0]->Receive(Host("...."), waiting.Keep());
  link_.ends[0]->Abort();
  EXPECT_THAT(waiting.Await(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("the link is closed")));
  Outcome other;
  link_.ends[1]->Receive(Host("...."), other.Keep());
  link_.ends[1].reset();
  EXPECT_TRUE(other.over());
}

TEST_F(DeviceThreadTest, AWordThatCannotBeEndsTheLink) {
  Connect(link_);
  link_.ends[1]->Take({7, 1, 0});
  Outcome late;
  link_.ends[1]->Send(Host("rows"), late.Keep());
  EXPECT_THAT(late.Await(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("the peer posted round 7")));
}

TEST_F(DeviceThreadTest, GroupsThatDoNotMatchEndTheLink) {
  Connect(link_);
  Outcome sent, received;
  link_.ends[1]->Receive(Host("....."), received.Keep());
  link_.ends[0]->Send(Host("rows"), sent.Keep());
  const absl::Status there = received.Await().status(), here = sent.Await().status();
  EXPECT_THAT(there, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(here, StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace ccoe::exchange
