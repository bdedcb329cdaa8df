// SPDX-License-Identifier: Apache-2.0
// Reports as workers send them.
#ifndef CCOE_TESTS_SERVICES_ROUTER_WORKER_REPORTS_H_
#define CCOE_TESTS_SERVICES_ROUTER_WORKER_REPORTS_H_

#include <string>

#include "ccoe/v1/control.pb.h"
#include "services/common/model_report.h"

namespace ccoe::services {

inline v1::WorkerReport ReportOf(const std::string& id, v1::WorkerRole role) {
  v1::WorkerReport report;
  report.set_protocol_version(kProtocolVersion);
  report.set_worker_id(id);
  report.set_role(role);
  report.set_address("inproc:" + id);
  report.set_model_fingerprint("model-a");
  report.set_ready(true);
  return report;
}

inline v1::WorkerReport BackboneReport(const std::string& id) {
  return ReportOf(id, v1::WORKER_ROLE_BACKBONE);
}

inline void Hold(const std::string& name, int64_t version, v1::WorkerReport* report) {
  v1::HeldExpert* held = report->add_experts();
  held->set_base_fingerprint("base-6");
  held->mutable_info()->mutable_expert()->set_name(name);
  held->mutable_info()->mutable_expert()->set_version(version);
  held->mutable_info()->set_first_layer(6);
  held->mutable_info()->set_last_layer(8);
}

// An expert worker that holds one expert.
inline v1::WorkerReport ExpertReport(const std::string& id, const std::string& name,
                                     int64_t version = 1) {
  v1::WorkerReport report = ReportOf(id, v1::WORKER_ROLE_EXPERT);
  Hold(name, version, &report);
  return report;
}

}  // namespace ccoe::services

#endif  // CCOE_TESTS_SERVICES_ROUTER_WORKER_REPORTS_H_
