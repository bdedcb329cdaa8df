// SPDX-License-Identifier: Apache-2.0
// The operators of a template, as Python has them.
#ifndef CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_OPERATORS_H_
#define CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_OPERATORS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/chat_template/jinja_value.h"

namespace ccoe::chat_template {

// + - * / // % ~. INVALID_ARGUMENT for kinds that do not go together, division by zero, or an
// integer past 64 bits.
absl::StatusOr<JinjaValue> JinjaBinary(const std::string& op, const JinjaValue& left,
                                       const JinjaValue& right, JinjaBudget& budget);

// == != < <= > >= in, not in. INVALID_ARGUMENT for kinds that have no order, or cannot hold
// anything.
absl::StatusOr<bool> CompareJinja(const std::string& op, const JinjaValue& left,
                                  const JinjaValue& right);

// object.name or object['name']: undefined if there is no such entry. INVALID_ARGUMENT if the
// object is undefined.
absl::StatusOr<JinjaValue> JinjaEntry(const JinjaValue& object, const std::string& name);

// object[index]: an item of a list, a character of a string, an entry of a dict. Undefined if there
// is none.
absl::StatusOr<JinjaValue> JinjaItem(const JinjaValue& object, const JinjaValue& index,
                                     JinjaBudget& budget);

// object[start:stop:step] of a list or string.
absl::StatusOr<JinjaValue> JinjaSlice(const JinjaValue& object, std::optional<int64_t> start,
                                      std::optional<int64_t> stop, std::optional<int64_t> step,
                                      JinjaBudget& budget);

// What a loop walks through: items, keys, characters; nothing if undefined. INVALID_ARGUMENT for
// other kinds.
absl::StatusOr<JinjaValue::List> JinjaItems(const JinjaValue& value, JinjaBudget& budget);

// `text` with each `from` (not empty) replaced by `to`.
absl::StatusOr<JinjaValue> ReplaceJinja(const std::string& text, const std::string& from,
                                        const std::string& to, JinjaBudget& budget);

// The entries of a dict as a list of [key, value].
absl::StatusOr<JinjaValue> JinjaPairs(const JinjaValue& dict, JinjaBudget& budget);

// The characters, as views into `text`.
std::vector<absl::string_view> Characters(absl::string_view text);

// The positions that Python's [start:stop:step] picks of `size`; step is not 0.
std::vector<size_t> SlicePositions(int64_t size, std::optional<int64_t> start,
                                   std::optional<int64_t> stop, int64_t step);

}  // namespace ccoe::chat_template

#endif  // CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_OPERATORS_H_
