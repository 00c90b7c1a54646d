#include "model/base_inspect.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/base_files.h"
#include "model/base_reader.h"
#include "model/guarded.h"
#include "model/safetensors_header.h"
#include "protocol/base_location.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using Count = BaseInspection::Count;

constexpr std::int64_t kRank = 128, kHeads = 3;

std::string part_of(const std::string& name) {
  if (name.starts_with("thinker.model.")) return "text";
  if (name.starts_with("thinker.audio_tower.")) return "audio";
  if (name.starts_with("thinker.visual.")) return "vision";
  return "head";
}

void add(std::vector<Count>& counts, const std::string& name, const BaseTensor& tensor) {
  auto count = std::find_if(counts.begin(), counts.end(),
                            [&](const Count& one) { return one.name == name; });
  if (count == counts.end()) count = counts.insert(counts.end(), {name, 0, 0, 0});
  ++count->tensors;
  count->parameters += tensor.bytes() / c10::elementSize(tensor.entry.type);
  count->bytes += tensor.bytes();
}

std::vector<BaseInspection::AdapterSize> adapter_sizes(const ThinkerConfig& config) {
  std::vector<BaseInspection::AdapterSize> sizes;
  for (const AdapterScope scope : {AdapterScope::all, AdapterScope::language_model}) {
    const auto modules = adapter_modules(config, scope);
    sizes.push_back({std::string(to_string(scope)), modules.size(),
                     adapter_parameters(modules, kRank, kHeads)});
  }
  return sizes;
}

Result<std::string> hash_files(
    const BaseFiles& files,
    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress) {
  std::uint64_t total = 0;
  for (const BaseTensor& tensor : files.tensors) total += tensor.bytes();
  BaseReader reader([&](std::uint64_t done) {
    if (progress) progress(done, total);
  });
  for (const BaseTensor& tensor : files.tensors) CRABCAST_TRY(reader.skim(tensor));
  return reader.hash();
}

std::string millions(std::uint64_t count) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f M", static_cast<double>(count) / 1e6);
  return text;
}

std::string count_table(const char* title, const std::vector<Count>& counts) {
  std::vector<std::vector<std::string>> rows;
  for (const Count& count : counts)
    rows.push_back({count.name, std::to_string(count.tensors), millions(count.parameters),
                    format_bytes(count.bytes)});
  return format_table({title, "TENSORS", "PARAMETERS", "SIZE"}, rows);
}

std::string list(const char* title, const std::vector<std::string>& lines) {
  if (lines.empty()) return "";
  std::string text = std::string("\n") + title + "\n";
  for (const std::string& line : lines) text += "  " + line + "\n";
  return text;
}

ordered_json shapes_json(const ThinkerConfig& config) {
  return {{"text",
           {{"layers", config.text.layers},
            {"hidden_size", config.text.hidden_size},
            {"intermediate_size", config.text.intermediate_size},
            {"heads", config.text.heads},
            {"kv_heads", config.text.kv_heads},
            {"head_dim", config.text.head_dim},
            {"vocab_size", config.text.vocab_size},
            {"tied_head", config.tie_word_embeddings}}},
          {"audio",
           {{"layers", config.audio.layers},
            {"hidden_size", config.audio.d_model},
            {"heads", config.audio.heads},
            {"mel_bins", config.audio.mel_bins}}},
          {"vision",
           {{"layers", config.vision.depth},
            {"hidden_size", config.vision.hidden_size},
            {"heads", config.vision.heads},
            {"patch_size", config.vision.patch_size},
            {"window_size", config.vision.window_size}}}};
}

ordered_json counts_json(const std::vector<Count>& counts) {
  ordered_json all = ordered_json::object();
  for (const Count& count : counts)
    all[count.name] = {
        {"tensors", count.tensors}, {"parameters", count.parameters}, {"bytes", count.bytes}};
  return all;
}

std::string layers_text(const char* name, std::int64_t layers, std::int64_t width,
                        std::int64_t heads) {
  return std::string(name) + " " + std::to_string(layers) + " layers of " + std::to_string(width) +
         " with " + std::to_string(heads) + " heads";
}

}  // namespace

std::string BaseInspection::text() const {
  std::string out = "base " + folder.string() + "\n";
  if (!parts.empty())
    out +=
        model_type + ": " +
        layers_text("text", config.text.layers, config.text.hidden_size, config.text.heads) + ", " +
        layers_text("audio", config.audio.layers, config.audio.d_model, config.audio.heads) + ", " +
        layers_text("vision", config.vision.depth, config.vision.hidden_size, config.vision.heads) +
        (config.tie_word_embeddings ? ", the head tied to the embedding" : "") + "\n";
  if (!hash.empty()) out += "hash " + hash + "\n";
  if (!parts.empty()) out += "\n" + count_table("PART", parts) + "\n" + count_table("TYPE", types);
  if (!adapters.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const AdapterSize& size : adapters)
      rows.push_back({size.scope, std::to_string(size.modules),
                      millions(static_cast<std::uint64_t>(size.parameters))});
    out += "\nadapter of rank " + std::to_string(kRank) + " with " + std::to_string(kHeads) +
           " heads\n" + format_table({"SCOPE", "MODULES", "PARAMETERS"}, rows);
  }
  return out + list("notes", notes) + list("problems", problems);
}

std::string BaseInspection::json() const {
  ordered_json all = {{"folder", folder.string()},
                      {"clean", clean()},
                      {"model_type", model_type},
                      {"hash", hash.empty() ? ordered_json() : ordered_json(hash)},
                      {"shards", shards}};
  if (!parts.empty()) all["shapes"] = shapes_json(config);
  all["parts"] = counts_json(parts);
  all["types"] = counts_json(types);
  all["adapter"] = {{"rank", kRank}, {"heads", kHeads}};
  for (const AdapterSize& size : adapters)
    all["adapter"][size.scope] = {{"modules", size.modules}, {"parameters", size.parameters}};
  all["skipped"] = {{"tensors", skipped_tensors}, {"bytes", skipped_bytes}};
  all["notes"] = notes;
  all["problems"] = problems;
  // Names in files need not be UTF-8: such bytes are replaced.
  return all.dump(2, ' ', false, ordered_json::error_handler_t::replace);
}

Result<BaseInspection> inspect_base(
    const fs::path& folder,
    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress) {
  return guarded(
      "looking at " + folder.string(), "Look on a machine with more memory",
      [&]() -> Result<BaseInspection> {
        auto files = find_base_files(folder);
        if (!files) return fail(files.error());
        BaseInspection out;
        const bool shipped = is_shipped_base(folder.native());
        out.folder = shipped ? folder : fs::absolute(folder).lexically_normal();
        out.model_type = files->model_type;
        out.config = files->config;
        out.shards = files->shards;
        for (const BaseTensor& tensor : files->tensors) {
          add(out.parts, part_of(tensor.name), tensor);
          add(out.types, *safetensors_type_name(tensor.entry.type), tensor);
        }
        if (!out.parts.empty()) out.adapters = adapter_sizes(out.config);
        out.skipped_tensors = files->skipped_tensors;
        out.skipped_bytes = files->skipped_bytes;
        if (out.skipped_tensors > 0)
          out.notes.push_back(std::to_string(out.skipped_tensors) + " tensors (" +
                              format_bytes(out.skipped_bytes) +
                              ") are of the talker and the vocoder: they are passed over");
        std::error_code error;
        if (shipped)
          out.notes.emplace_back("it is part of the program; its tokenizer takes bytes");
        else if (!fs::is_regular_file(folder / "tokenizer.json", error))
          out.notes.emplace_back(
              "there is no tokenizer.json: a job cannot use the folder without it");
        for (const Error& problem : files->problems) out.problems.push_back(problem.message);
        if (out.clean())
          if (const Status tied = check_tied_head(*files); !tied)
            out.problems.push_back(tied.error().message);
        if (!out.clean()) return out;
        auto hash = hash_files(*files, progress);
        if (hash)
          out.hash = std::move(*hash);
        else
          out.problems.push_back(hash.error().message);
        return out;
      });
}

}  // namespace crabcast::model
