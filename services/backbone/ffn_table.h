// SPDX-License-Identifier: Apache-2.0
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
  std::string numerics = "";  // see exchange::LinkPeer
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
//
// All holders of an expert are of one numerics class, so that its bits do not depend on which of
// them computes: of `numerics`, the backbone's, where one is; else of the first in order of name.
// Workers of another class take over where that class is gone.
std::shared_ptr<const engine::FfnTable> BuildFfnTable(const model::FfnShard& all,
                                                      const model::FfnShard& here,
                                                      const std::vector<FfnHolder>& holders,
                                                      const std::vector<GoneFfnHolder>& gone = {},
                                                      const std::string& numerics = "");

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_FFN_TABLE_H_
