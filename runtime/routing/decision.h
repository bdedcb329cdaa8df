// What the gate says about a query, as plain values.
#ifndef CCOE_RUNTIME_ROUTING_DECISION_H_
#define CCOE_RUNTIME_ROUTING_DECISION_H_

#include <string>

#include "runtime/base/ids.h"

namespace ccoe::routing {

// A rule that matched.
struct RuleMatch {
  std::string rule;         // its name
  ExpertRef expert;         // empty: the base model's own layers; version 0: the newest
  std::string explanation;  // for people: rule "math-words": keyword "how many"
};

}  // namespace ccoe::routing

#endif  // CCOE_RUNTIME_ROUTING_DECISION_H_
