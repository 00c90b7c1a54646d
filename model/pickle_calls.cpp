#include "model/pickle_calls.h"

#include <c10/core/ScalarType.h>

#include <array>

#include "protocol/format.h"

namespace crabcast::model {
namespace {

using Id = PickleObject::Id;
using Kind = PickleObject::Kind;

constexpr std::size_t kMostDimensions = 8;

enum class Meaning {
  ordered_dict,
  tensor_v2,  // of the storage's type
  tensor_v3,  // of a type that is given
  parameter,
  storage,
  untyped_storage,
  type,
};

struct KnownName {
  std::string_view module, name;
  Meaning meaning;
  at::ScalarType type = at::kByte;  // of a storage
};

constexpr std::array<KnownName, 12> kKnownNames = {{
    {"collections", "OrderedDict", Meaning::ordered_dict},
    {"torch._utils", "_rebuild_tensor_v2", Meaning::tensor_v2},
    {"torch._utils", "_rebuild_tensor_v3", Meaning::tensor_v3},
    {"torch._utils", "_rebuild_parameter", Meaning::parameter},
    {"torch", "FloatStorage", Meaning::storage, at::kFloat},
    {"torch", "HalfStorage", Meaning::storage, at::kHalf},
    {"torch", "BFloat16Storage", Meaning::storage, at::kBFloat16},
    {"torch", "UntypedStorage", Meaning::untyped_storage},
    {"torch.storage", "UntypedStorage", Meaning::untyped_storage},
    {"torch", "float32", Meaning::type, at::kFloat},
    {"torch", "float16", Meaning::type, at::kHalf},
    {"torch", "bfloat16", Meaning::type, at::kBFloat16},
}};

const KnownName& name_at(PickleObjects& objects, Id id) {
  return kKnownNames.at(static_cast<std::size_t>(objects.expect(id, Kind::function).number));
}

std::vector<std::int64_t> sizes(PickleObjects& objects, Id id) {
  const std::vector<Id>& items = objects.tuple(id);
  if (items.size() > kMostDimensions)
    refuse("a tensor has more than " + std::to_string(kMostDimensions) + " dimensions");
  std::vector<std::int64_t> values;
  for (const Id item : items) values.push_back(objects.size(item));
  return values;
}

// (storage, offset, shape, strides, whether it is trained, hooks, ..)
Id add_tensor(PickleObjects& objects, const std::vector<Id>& arguments, at::ScalarType type) {
  const PickleObject& storage = objects.expect(arguments[0], Kind::storage);
  if (type == at::kByte) refuse("a tensor has no type that is known");
  if (!objects.dict(arguments[5]).empty()) refuse("a tensor has hooks, which are code");
  PickledTensor tensor;
  tensor.storage = storage.text;
  tensor.type = type;
  tensor.storage_elements = storage.number;
  if (storage.type == at::kByte)
    tensor.storage_elements /= static_cast<std::int64_t>(c10::elementSize(type));
  tensor.offset = objects.size(arguments[1]);
  tensor.shape = sizes(objects, arguments[2]);
  tensor.strides = sizes(objects, arguments[3]);
  if (tensor.shape.size() != tensor.strides.size())
    refuse("a tensor has another number of sizes than of strides");
  return objects.add_tensor(std::move(tensor));
}

}  // namespace

PickleObject known_function(std::string_view module, std::string_view name) {
  for (std::size_t i = 0; i < kKnownNames.size(); ++i)
    if (kKnownNames[i].module == module && kKnownNames[i].name == name)
      return {.kind = Kind::function, .number = static_cast<std::int64_t>(i)};
  refuse("it names " + excerpt(module) + "." + excerpt(name) +
         ", which has no place in a state dict; nothing of the file was executed");
}

Id called(PickleObjects& objects, Id function, Id arguments_id) {
  const KnownName& known = name_at(objects, function);
  const std::vector<Id>& arguments = objects.tuple(arguments_id);
  const auto takes = [&](std::size_t least, std::size_t most) {
    if (arguments.size() < least || arguments.size() > most)
      refuse(std::string(known.name) + " gets " + std::to_string(arguments.size()) + " arguments");
  };
  switch (known.meaning) {
    case Meaning::ordered_dict:
      takes(0, 0);
      return objects.add({.kind = Kind::dict});
    case Meaning::tensor_v2:
      takes(6, 7);
      return add_tensor(objects, arguments, objects.at(arguments[0]).type);
    case Meaning::tensor_v3:
      takes(7, 8);
      return add_tensor(objects, arguments, name_at(objects, arguments[6]).type);
    case Meaning::parameter:  // (tensor, whether it is trained, hooks)
      takes(3, 3);
      objects.expect(arguments[0], Kind::tensor);
      if (!objects.dict(arguments[2]).empty()) refuse("a tensor has hooks, which are code");
      return arguments[0];
    default:
      refuse(std::string(known.name) + " is no function that a state dict calls");
  }
}

Id persistent(PickleObjects& objects, Id description) {
  const std::vector<Id>& parts = objects.tuple(description);
  if (parts.size() != 5 || objects.text(parts[0]) != "storage")
    refuse("a persistent object is no storage");
  const KnownName& type = name_at(objects, parts[1]);
  if (type.meaning != Meaning::storage && type.meaning != Meaning::untyped_storage)
    refuse("a storage has no type that is known");
  objects.text(parts[3]);  // the device that it was on
  return objects.add({.kind = Kind::storage,
                      .number = objects.size(parts[4]),
                      .text = objects.text(parts[2]),
                      .type = type.type});
}

}  // namespace crabcast::model
