// The largest sizes a config may ask for: far above any model there is.
#ifndef CCOE_RUNTIME_MODEL_FAMILIES_LIMITS_H_
#define CCOE_RUNTIME_MODEL_FAMILIES_LIMITS_H_

#include <cstdint>

namespace ccoe::model {

inline constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
inline constexpr int64_t kMaxWidth = int64_t{1} << 20;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxHeadDim = 4096;
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxPositions = int64_t{1} << 30;
inline constexpr int64_t kMaxExperts = int64_t{1} << 16;  // of one layer

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FAMILIES_LIMITS_H_
