// SPDX-License-Identifier: Apache-2.0
#include "services/common/http_endpoints.h"

#include <httplib.h>
#include <prometheus/collectable.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>

#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "glog/logging.h"
#include "runtime/base/bounded_queue.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/common/channel_factory.h"

namespace ccoe::services {
namespace {

constexpr int kIoTimeoutSeconds = 5;
constexpr size_t kMaxBodyBytes = 64 << 10;  // both paths are GETs

// httplib's own pool queues connections without bound.
class BoundedPool final : public httplib::TaskQueue {
 public:
  explicit BoundedPool(int threads) : jobs_(threads) {
    for (int i = 0; i < threads; ++i) {
      workers_.emplace_back([this] {
        while (auto job = jobs_.Pop()) (*job)();
      });
    }
  }
  // A full queue makes the accepting thread wait.
  void enqueue(std::function<void()> job) override { jobs_.Push(std::move(job)); }
  void shutdown() override {
    jobs_.Close();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

 private:
  BoundedQueue<std::function<void()>> jobs_;
  std::vector<std::thread> workers_;
};

// Without SO_REUSEPORT, which is httplib's default: two processes on one port are a mistake.
void SetSocketOptions(socket_t socket) {
  const int yes = 1;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

void AnswerMetrics(const prometheus::Collectable& metrics, httplib::Response* response) {
  try {
    response->set_content(prometheus::TextSerializer().Serialize(metrics.Collect()),
                          "text/plain; version=0.0.4; charset=utf-8");
  } catch (const std::exception& error) {
    response->status = 500;
    response->set_content(absl::StrCat("metrics: ", error.what(), "\n"), "text/plain");
  }
}

void AnswerHealth(const absl::Status& health, httplib::Response* response) {
  response->status = health.ok() ? 200 : 503;
  response->set_content(health.ok() ? "ok\n" : absl::StrCat(health.message(), "\n"), "text/plain");
}

void Configure(const HttpOptions& options, httplib::Server* server) {
  const int threads = options.threads;
  server->new_task_queue = [threads] { return new BoundedPool(threads); };
  server->set_socket_options(SetSocketOptions);
  server->set_read_timeout(kIoTimeoutSeconds);
  server->set_write_timeout(kIoTimeoutSeconds);
  // An idle connection would keep one of the few threads.
  server->set_keep_alive_max_count(1);
  server->set_payload_max_length(kMaxBodyBytes);
  server->Get("/metrics", [metrics = options.metrics](const auto&, httplib::Response& response) {
    AnswerMetrics(*metrics, &response);
  });
  server->Get("/healthz", [health = options.health](const auto&, httplib::Response& response) {
    AnswerHealth(health ? health() : absl::OkStatus(), &response);
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpEndpoints>> HttpEndpoints::Start(HttpOptions options) {
  CCOE_CHECK(options.metrics != nullptr);
  CCOE_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(options.listen));
  if (options.threads < 1 || options.threads > 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("HTTP threads: expected 1 to 64, found ", options.threads));
  }
  auto server = std::make_unique<httplib::Server>();
  try {
    Configure(options, server.get());
    if (address.port == 0) {
      address.port = server->bind_to_any_port(address.host);
    } else if (!server->bind_to_port(address.host, address.port)) {
      address.port = -1;
    }
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("HTTP on ", options.listen, ": ", error.what()));
  }
  if (address.port <= 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", options.listen,
                                               " (metrics and health): the port is in use, or the "
                                               "host is not an address of this machine"));
  }
  return std::unique_ptr<HttpEndpoints>(
      new HttpEndpoints(std::move(options), address.ToString(), std::move(server)));
}

HttpEndpoints::HttpEndpoints(HttpOptions options, std::string address,
                             std::unique_ptr<httplib::Server> server)
    : options_(std::move(options)), address_(std::move(address)), server_(std::move(server)) {
  listener_ = std::thread([this] {
    try {
      if (!server_->listen_after_bind()) LOG(ERROR) << "HTTP on " << address_ << " ended";
    } catch (const std::exception& error) {
      LOG(ERROR) << "HTTP on " << address_ << " ended: " << error.what();
    }
    ended_ = true;
  });
  // httplib forgets a stop() that comes before its loop has begun.
  while (!server_->is_running() && !ended_) absl::SleepFor(absl::Milliseconds(1));
}

HttpEndpoints::~HttpEndpoints() {
  server_->stop();
  listener_.join();
}

}  // namespace ccoe::services
