// SPDX-License-Identifier: Apache-2.0
// The small HTTP server of every role: /metrics for Prometheus, /healthz for probes.
#ifndef CCOE_SERVICES_COMMON_HTTP_ENDPOINTS_H_
#define CCOE_SERVICES_COMMON_HTTP_ENDPOINTS_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace httplib {
class Server;
}
namespace prometheus {
class Collectable;
}

namespace ccoe::services {

struct HttpOptions {
  // "host:port"; port 0 picks a free one (see HttpEndpoints::address).
  std::string listen = "127.0.0.1:8002";
  // What /metrics shows. Required. Kept for the server's life.
  std::shared_ptr<const prometheus::Collectable> metrics;
  // OK: /healthz answers 200 "ok"; else 503 with the message. Called from the server's threads;
  // must be quick. Unset: always OK.
  std::function<absl::Status()> health;
  // Requests served at once; so many more wait, then connections stay in the system's backlog.
  int threads = 2;
};

// Thread-safe. Destruction stops the server and joins its threads; a request that runs is finished.
class HttpEndpoints {
 public:
  // INVALID_ARGUMENT for a malformed address; UNAVAILABLE naming it where the port is in use.
  static absl::StatusOr<std::unique_ptr<HttpEndpoints>> Start(HttpOptions options);

  ~HttpEndpoints();
  HttpEndpoints(const HttpEndpoints&) = delete;
  HttpEndpoints& operator=(const HttpEndpoints&) = delete;

  // "host:port" with the real port.
  const std::string& address() const { return address_; }

 private:
  HttpEndpoints(HttpOptions options, std::string address, std::unique_ptr<httplib::Server> server);

  const HttpOptions options_;
  const std::string address_;
  const std::unique_ptr<httplib::Server> server_;
  std::atomic<bool> ended_{false};  // the listener has returned
  std::thread listener_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_HTTP_ENDPOINTS_H_
