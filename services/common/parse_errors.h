// A clear answer to requests that are no messages.
#ifndef CCOE_SERVICES_COMMON_PARSE_ERRORS_H_
#define CCOE_SERVICES_COMMON_PARSE_ERRORS_H_

#include <grpcpp/support/server_interceptor.h>

#include <memory>

namespace ccoe::services {

// gRPC answers a request that cannot be parsed (bytes that are no protobuf message, a string field
// that is not UTF-8) with INTERNAL and no words, before a handler sees it. An interceptor made here
// turns that into INVALID_ARGUMENT that says so and names the method. Errors of handlers carry a
// message and pass unchanged.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeParseErrorInterceptor();

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_PARSE_ERRORS_H_
