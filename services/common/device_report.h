// What a worker reports of its device.
#ifndef CCOE_SERVICES_COMMON_DEVICE_REPORT_H_
#define CCOE_SERVICES_COMMON_DEVICE_REPORT_H_

#include <cstdint>

#include "ccoe/v1/control.pb.h"
#include "kernels/device.h"

namespace ccoe::services {

// Of a worker that planned `planned_bytes`; nothing is set where that is 0. A plan that turned out
// too small (kernels/serving_thread.h) is logged once.
void ReportDevice(kernels::Device& device, int64_t planned_bytes, v1::WorkerLoad* load);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_DEVICE_REPORT_H_
