// The names and calls that a state dict is made of, and what they stand for. Nothing is called.
// Internal to the pickle reader.
#pragma once

#include <string_view>
#include <vector>

#include "model/pickle_objects.h"

namespace crabcast::model {

// A function or a type of Python.
PickleObject known_function(std::string_view module, std::string_view name);

// What REDUCE stands for: function(*arguments).
PickleObject::Id called(PickleObjects& objects, PickleObject::Id function,
                        PickleObject::Id arguments);

// What BINPERSID stands for: ("storage", type, key, device, elements).
PickleObject::Id persistent(PickleObjects& objects, PickleObject::Id description);

}  // namespace crabcast::model
