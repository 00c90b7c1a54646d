// What the tensors of a base are called in files, and what this code calls them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace crabcast::model {

// The published name (thinker.model.norm.weight) of a tensor of the thinker, from any of the names
// that transformers gives it; nothing for any other tensor. Only the beginning is looked at.
std::optional<std::string> published_name(std::string_view name);

// What transformers 5 calls a tensor or module of the thinker in memory, from its published name.
std::string in_memory_name(std::string_view published);

// Tensors of the talker and of the vocoder, which the published files hold too and nothing here
// needs.
bool is_of_another_part(std::string_view name);

}  // namespace crabcast::model
