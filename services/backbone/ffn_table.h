// From who holds which FFN experts to the engine's table.
#ifndef CCOE_SERVICES_BACKBONE_FFN_TABLE_H_
#define CCOE_SERVICES_BACKBONE_FFN_TABLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/directory.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/model/ffn_shard.h"

namespace ccoe::services {

// A worker whose link works.
struct FfnHolder {
  std::string worker_id;
  std::shared_ptr<exchange::ActivationLink> link;
  model::FfnShard shard;
};

// A worker whose link does not work, or that has left.
struct GoneFfnHolder {
  std::string worker_id;
  std::string why;
  model::FfnShard shard;
};

// `all`: every FFN expert of the model; what else a holder names is passed over. `here`: those with
// the backbone, which come first among an expert's holders. A worker that holds none of `all` is
// left out. Experts that only `gone` workers held are nowhere.
std::shared_ptr<const engine::FfnTable> BuildFfnTable(const model::FfnShard& all,
                                                      const model::FfnShard& here,
                                                      const std::vector<FfnHolder>& holders,
                                                      const std::vector<GoneFfnHolder>& gone = {});

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_FFN_TABLE_H_
