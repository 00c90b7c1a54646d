// What a pickle's machine handles: objects that name each other by number, so that nothing is
// nested in memory, however deep the text is. Internal to the pickle reader.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/pickle.h"

namespace crabcast::model {

// What the machine throws to its own caller, read_state_dict.
struct Refusal {
  std::string why;
};

[[noreturn]] inline void refuse(std::string why) {
  throw Refusal{std::move(why)};
}

inline constexpr std::size_t kMostPickleObjects = 1 << 20;

struct PickleObject {
  using Id = std::uint32_t;
  enum class Kind { none, truth, whole, text, tuple, dict, function, storage, tensor };

  Kind kind = Kind::none;
  std::int64_t number = 0;          // truth, whole; storage: its elements; function, tensor: which
  std::string_view text = {};            // text; storage: its key
  at::ScalarType type = at::kByte;  // storage; of bytes where it is untyped
  std::vector<Id> items = {};            // tuple; dict: key, value, key, value ..
};

inline std::string name_of(PickleObject::Kind kind) {
  constexpr std::array kNames = {"None",   "a truth value", "a number",  "a text",  "a tuple",
                                 "a dict", "a function",    "a storage", "a tensor"};
  return kNames.at(static_cast<std::size_t>(kind));
}

class PickleObjects {
 public:
  using Id = PickleObject::Id;
  using Kind = PickleObject::Kind;

  Id add(PickleObject object) {
    if (objects_.size() == kMostPickleObjects)
      refuse("it makes more than " + std::to_string(kMostPickleObjects) + " objects");
    objects_.push_back(std::move(object));
    return static_cast<Id>(objects_.size() - 1);
  }
  PickleObject& at(Id id) { return objects_[id]; }
  PickleObject& expect(Id id, Kind kind) {
    if (at(id).kind != kind)
      refuse(name_of(at(id).kind) + " stands where " + name_of(kind) + " should");
    return at(id);
  }

  std::string_view text(Id id) { return expect(id, Kind::text).text; }
  const std::vector<Id>& tuple(Id id) { return expect(id, Kind::tuple).items; }
  std::vector<Id>& dict(Id id) { return expect(id, Kind::dict).items; }
  std::int64_t size(Id id) {
    const std::int64_t value = expect(id, Kind::whole).number;
    if (value < 0) refuse("a size is negative");
    return value;
  }
  const PickledTensor& tensor(Id id) {
    return tensors_[static_cast<std::size_t>(expect(id, Kind::tensor).number)];
  }
  Id add_tensor(PickledTensor tensor) {
    tensors_.push_back(std::move(tensor));
    return add({.kind = Kind::tensor, .number = static_cast<std::int64_t>(tensors_.size() - 1)});
  }

 private:
  std::deque<PickleObject> objects_;  // a reference stays good when another object comes
  std::vector<PickledTensor> tensors_;
};

}  // namespace crabcast::model
