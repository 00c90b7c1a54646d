// A job spec from a file, read and checked before anything is sent.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::apps {

// The file's text; "-" is stdin. not_found, invalid_argument for a folder or more than 1 MiB.
// `what` names it in errors.
Result<std::string> read_spec_text(const std::string& path, const std::string& what = "job spec");
// Read and validated; invalid_spec lists every mistake as FILE:LINE:COLUMN: ...
Result<JobSpec> read_spec(const std::string& path);
// Whether this machine has what the spec names: its base, in `imported` or elsewhere, and the
// adapter that it begins with. not_found.
Status find_places(const JobSpec& spec, const std::filesystem::path& imported);
// Every field that it has a use for with its value, defaults included, under the names of the YAML
// form; valid under docs/job-spec.schema.json.
nlohmann::ordered_json spec_json(const JobSpec& spec);

}  // namespace crabcast::apps
