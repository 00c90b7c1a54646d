// Who may include whom (docs/architecture.md). The table is the rule; a folder that is not in it is
// a violation too.
#pragma once

#include <regex>

#include "tests/house/source.h"

namespace crabcast::house {

struct Layer {
  std::string folder;
  std::vector<std::string> may_include;  // folders and single headers, besides its own
  std::vector<std::string> libraries;    // of kLibraries; all others are closed to it
};

struct Library {
  std::string name;
  std::vector<std::string> prefixes;  // of its headers
};

// Libraries that belong to some folders only. Others (spdlog, nlohmann, the C++ library) are free.
inline const std::vector<Library>& libraries() {
  static const std::vector<Library> all = {
      {"LibTorch", {"torch/", "ATen/", "c10/"}},
      {"RocksDB", {"rocksdb/"}},
      {"CAF", {"caf/"}},
      {"ZeroMQ", {"zmq.h", "zmq.hpp", "zmq_addon.hpp"}},
      {"CUDA", {"cuda", "cublas", "nccl", "nvml"}},
      {"FFmpeg", {"libav", "libsw"}},
      {"yaml-cpp", {"yaml-cpp/"}},
      {"CLI11", {"CLI/"}},
      {"cpp-httplib", {"httplib.h"}},
      {"prometheus-cpp", {"prometheus/"}},
      {"ICU", {"unicode/"}},
  };
  return all;
}

inline const std::vector<Layer>& layers() {
  static const std::vector<Layer> all = {
      {"protocol", {}, {"yaml-cpp"}},
      {"cluster", {"protocol"}, {"ZeroMQ", "CUDA"}},
      {"storage", {"protocol"}, {"RocksDB"}},
      {"model", {"protocol"}, {"LibTorch", "CUDA", "ICU"}},
      {"data", {"protocol", "model/tokenizer.h"}, {"LibTorch", "FFmpeg", "RocksDB"}},
      {"scheduler", {"protocol"}, {}},
      {"actors", {"protocol", "cluster"}, {"CAF"}},
      {"actors/control", {"protocol", "cluster", "storage", "scheduler", "actors"}, {"CAF"}},
      // The gateway is a client of the controller actor: it knows its messages, and not its code.
      {"actors/control/gateway",
       {"protocol", "cluster", "actors"},
       {"CAF", "cpp-httplib", "prometheus-cpp", "yaml-cpp"}},
      {"actors/compute", {"protocol", "cluster", "model", "data", "actors"}, {"CAF", "LibTorch"}},
      // The command line links no LibTorch. The compute program knows RocksDB through data/ only.
      {"apps/cli",
       {"protocol", "cluster", "storage", "scheduler", "actors", "actors/control",
        "actors/control/gateway", "apps/chaos"},
       {"CAF", "CLI11"}},
      {"apps/chaos",
       {"protocol", "cluster", "storage", "actors/control/state_folder.h", "apps/cli/client.h",
        "apps/cli/output.h"},
       {}},
      {"apps/compute",
       {"protocol", "cluster", "data", "actors", "actors/compute", "apps/cli/exit_codes.h",
        "apps/cli/signals.h", "apps/cli/spec_file.h", "actors/control/state_folder.h",
        "model/base_inspect.h", "model/base_import.h", "model/adapter_inspect.h",
        "model/adapter_import.h"},
       {"CAF", "CLI11"}},
  };
  return all;
}

// The layer that a path of this repository belongs to: the longest folder that holds it.
inline const Layer* layer_of(std::string_view path) {
  const Layer* found = nullptr;
  for (const Layer& layer : layers())
    if (path.starts_with(layer.folder + "/") &&
        (found == nullptr || layer.folder.size() > found->folder.size()))
      found = &layer;
  return found;
}

inline bool is_free_folder(std::string_view path) {
  return path.starts_with("tests/") || path.starts_with("bench/");
}

inline std::string list_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

struct Include {
  std::size_t line = 0;
  std::string header;
  bool quoted = false;
};

inline std::vector<Include> includes_of(const SourceFile& file) {
  static const std::regex pattern(R"re(^\s*#\s*include\s*([<"])([^>"]+)[>"])re");
  std::vector<Include> found;
  const auto lines = lines_of(without_comments(file.text, Keep::strings));
  for (std::size_t i = 0; i < lines.size(); ++i)
    if (std::smatch match; std::regex_search(lines[i], match, pattern))
      found.push_back({i + 1, match[2], match[1] == "\""});
  return found;
}

inline const Library* library_of(const std::string& header) {
  for (const Library& library : libraries())
    for (const std::string& prefix : library.prefixes)
      if (header.starts_with(prefix)) return &library;
  return nullptr;
}

inline std::string wrong_include(const Layer& layer, const Include& include) {
  const auto listed = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (const Library* library = library_of(include.header)) {
    if (listed(layer.libraries, library->name)) return "";
    return layer.folder + "/ must not use " + library->name +
           ": reach it through the interface of the folder that owns it";
  }
  const Layer* target = layer_of(include.header);
  if (target == nullptr)
    return include.quoted ? "write the path from the repository's root, as in \"protocol/error.h\""
                          : "";
  if (target->folder == layer.folder || listed(layer.may_include, target->folder) ||
      listed(layer.may_include, include.header))
    return "";
  return layer.folder + "/ must not include " + target->folder + "/, only " +
         (layer.may_include.empty() ? "itself" : list_of(layer.may_include)) +
         ": hand the value in from a folder above";
}

inline Violations check_layering(const SourceFile& file) {
  if (!is_cpp(file.path) || is_free_folder(file.path)) return {};
  const Layer* layer = layer_of(file.path);
  if (layer == nullptr)
    return {{file.path, 0, "no layer: add its folder to the table in tests/house/layering.h"}};
  Violations found;
  for (const Include& include : includes_of(file))
    if (const std::string wrong = wrong_include(*layer, include); !wrong.empty())
      found.push_back(
          {file.path, include.line, "layering: " + wrong + " (" + include.header + ")"});
  return found;
}

}  // namespace crabcast::house
