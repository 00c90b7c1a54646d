// Where `model.base` of a job spec leads. Every process asks this one function, so a spec means the
// same in each of them, and on each node.
//
//     nano                   a base that Crabcast ships
//     Qwen2.5-Omni-7B        no slash: imported under this name with `crabcast base import`
//     /models/Qwen2.5-Omni   with a slash: a folder in Hugging Face layout
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/error.h"

namespace crabcast {

std::vector<std::string> shipped_bases();
bool is_shipped_base(std::string_view base);

// Whether a base may be imported under this name: letters, digits, '.', '_' and '-', up to 63, a
// letter or digit first, and not the name of a shipped base. invalid_argument says what is wrong.
Status check_base_name(const std::string& name);

// The name of a shipped base, or the folder of any other one. `imported` is the folder of this
// node's imported bases (STATE/bases); it need not exist, and an empty path means none.
// not_found: there is no such folder, or no base of that name; names those that there are.
Result<std::string> locate_base(const std::string& base, const std::filesystem::path& imported);

}  // namespace crabcast
