// SPDX-License-Identifier: Apache-2.0
// An expert worker without a model, in a process of its own: prints its port, then serves until it
// is killed. For tests.
#include <cstdio>
#include <cstdlib>

#include "runtime/exchange/grpc/exchange_service.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/testing/fake_swap_handler.h"

// Usage: negating_worker HIDDEN_SIZE [hold]: with "hold" it never answers.
int main(int argc, char** argv) {
  if (argc < 2) return 2;
  ccoe::testing::FakeSwapHandler handler(std::atoi(argv[1]));
  if (argc > 2) handler.Hold();
  ccoe::exchange::ExchangeService service(&handler, {});
  ccoe::exchange::ExchangeServer server(&service);
  std::printf("%d\n", server.port());
  std::fflush(stdout);
  // Whoever started this holds the other end of stdin: its end is ours.
  while (std::getchar() != EOF) {
  }
  return 0;
}
