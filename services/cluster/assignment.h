// Which expert worker of a fresh cluster holds which bundles.
#ifndef CCOE_SERVICES_CLUSTER_ASSIGNMENT_H_
#define CCOE_SERVICES_CLUSTER_ASSIGNMENT_H_

#include <string>
#include <vector>

namespace ccoe::services {

// Bundles in turn over `workers` workers; where there are more workers than bundles, the rest hold
// replicas in turn. One list a worker, none empty; no worker without bundles.
std::vector<std::vector<std::string>> AssignBundles(const std::vector<std::string>& bundles,
                                                    int workers);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_CLUSTER_ASSIGNMENT_H_
