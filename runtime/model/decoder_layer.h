// What a Decoder holds of one layer: for decoder*.cc only.
#ifndef CCOE_RUNTIME_MODEL_DECODER_LAYER_H_
#define CCOE_RUNTIME_MODEL_DECODER_LAYER_H_

#include <vector>

#include "runtime/model/attention.h"
#include "runtime/model/decoder.h"
#include "runtime/model/ffn.h"
#include "runtime/model/latent_attention.h"
#include "runtime/model/moe.h"

namespace ccoe::model {

// Of attention and latent, and of ffn and moe, the one that the layer's spec asks for.
struct Decoder::Layer {
  AttentionWeights attention;
  LatentAttentionWeights latent;
  FfnWeights ffn;
  MoeWeights moe;
  std::vector<FfnExpertWeights> experts;  // all of the layer's, empty views where not held
  bool holds_all = false;                 // of `experts`, none is empty
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_DECODER_LAYER_H_
