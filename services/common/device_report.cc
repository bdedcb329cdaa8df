#include "services/common/device_report.h"

#include "glog/logging.h"
#include "kernels/serving_thread.h"

namespace ccoe::services {

void ReportDevice(kernels::Device& device, int64_t planned_bytes, v1::WorkerLoad* load) {
  if (planned_bytes == 0) return;
  load->set_device(device.Name());
  load->set_device_planned_bytes(planned_bytes);
  load->set_device_free_bytes(device.FreeBytes());
  const int64_t allocations = kernels::AllocationsWhileServing();
  load->set_device_serving_allocations(allocations);
  if (allocations > 0) {
    LOG_FIRST_N(WARNING, 1) << device.Name() << ": " << allocations
                            << " allocations while serving: expected none, the memory planned at "
                               "the start was too little";
  }
}

}  // namespace ccoe::services
