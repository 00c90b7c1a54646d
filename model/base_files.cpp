#include "model/base_files.h"

#include <ATen/core/Tensor.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "model/base_config.h"
#include "model/base_names.h"
#include "model/disk_file.h"
#include "model/safetensors_header.h"
#include "model/shipped_base.h"
#include "model/strict_json.h"
#include "protocol/base_location.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Entry = SafetensorsFile::Entry;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::uint64_t kMostIndexBytes = 64ULL << 20;

bool can_be_converted(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
}

// Goes through the files of a folder and notes what is there and what is wrong.
class Search {
 public:
  explicit Search(fs::path folder) { files_.folder = std::move(folder); }

  BaseFiles run() {
    read_config();
    std::error_code error;
    if (fs::exists(files_.folder / kSingle, error))
      take_shard(kSingle, nullptr);
    else
      read_index();
    if (has_config_) compare_with_config();
    return std::move(files_);
  }

  BaseFiles run_shipped() {
    files_.model_type = "qwen2_5_omni_thinker";
    files_.config = nano();
    auto file = open_shipped_weights();
    if (file)
      take_file(*file, kSingle, nullptr);
    else
      files_.problems.push_back(file.error());
    compare_with_config();
    return std::move(files_);
  }

 private:
  void problem(Errc code, std::string text) { files_.problems.push_back({code, std::move(text)}); }

  void read_config() {
    auto read = read_base_config(files_.folder);
    if (!read) return files_.problems.push_back(read.error());
    files_.model_type = read->model_type;
    files_.config = read->config;
    has_config_ = read->problems.empty();
    for (const std::string& text : read->problems)
      problem(Errc::unsupported, "config.json: " + text);
  }

  void read_index() {
    const fs::path path = files_.folder / kIndex;
    auto text = read_whole_file(path, kMostIndexBytes);
    if (!text && text.error().code == Errc::not_found)
      return problem(Errc::not_found,
                     "there is neither " + std::string(kSingle) + " nor " + kIndex);
    if (!text) return files_.problems.push_back(text.error());
    auto index = parse_strict_json(*text);
    if (!index) return files_.problems.push_back(index.error().within(kIndex));
    const auto map = index->find("weight_map");
    if (map == index->end() || !map->is_object())
      return problem(Errc::corrupt, std::string(kIndex) + ": weight_map is missing");
    std::map<std::string, std::set<std::string>> shards;  // file -> names that it should hold
    for (const auto& [name, file] : map->items()) {
      if (!file.is_string())
        problem(Errc::corrupt, std::string(kIndex) + ": the file of " + excerpt(name, 200) +
                                   " is " + excerpt(file.dump()) + ", not a name");
      else
        shards[file.get<std::string>()].insert(name);
    }
    if (shards.empty()) problem(Errc::corrupt, std::string(kIndex) + ": weight_map is empty");
    for (const auto& [file, names] : shards) take_shard(file, &names);
  }

  // `expected` is what the index says that the shard holds; null where there is no index.
  void take_shard(const std::string& name, const std::set<std::string>* expected) {
    // A shard may be a link to elsewhere, as in the cache of Hugging Face, but its name may not.
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
      return problem(Errc::corrupt, std::string(kIndex) + ": the shard \"" + excerpt(name, 200) +
                                        "\" is not a plain file name in the folder");
    auto file = SafetensorsFile::open(files_.folder / name);
    if (!file) return files_.problems.push_back(file.error());
    take_file(*file, name, expected);
  }

  void take_file(const std::shared_ptr<const SafetensorsFile>& file, const std::string& name,
                 const std::set<std::string>* expected) {
    ++files_.shards;
    std::set<std::string> left = expected == nullptr ? std::set<std::string>() : *expected;
    for (const Entry& entry : file->entries()) {
      if (expected != nullptr && left.erase(entry.name) == 0)
        problem(Errc::corrupt, "tensor " + excerpt(entry.name, 200) + " is in " + name + ", but " +
                                   kIndex + " does not say so");
      take_tensor(file, entry);
    }
    for (const std::string& missing : left)
      problem(Errc::corrupt, "tensor " + excerpt(missing, 200) + " is not in " + name + ", where " +
                                 kIndex + " says that it is");
  }

  void take_tensor(const std::shared_ptr<const SafetensorsFile>& file, const Entry& entry) {
    if (is_of_another_part(entry.name)) {
      ++files_.skipped_tensors;
      files_.skipped_bytes += entry.end - entry.begin;
      return;
    }
    const auto name = published_name(entry.name);
    const std::string key = name ? *name : entry.name;
    const auto [place, is_new] = found_.try_emplace(key, BaseTensor{key, file, entry});
    if (!is_new)
      problem(Errc::corrupt, "tensor " + excerpt(key, 200) + " is there twice: in " +
                                 place->second.file->path().filename().string() + " and in " +
                                 file->path().filename().string());
  }

  void compare_with_config() {
    for (const WeightShape& weight : weight_shapes(files_.config)) {
      const auto found = found_.find(weight.name);
      if (found == found_.end()) {
        problem(Errc::corrupt, "tensor " + weight.name + " is missing");
        continue;
      }
      compare(found->second, weight.shape);
      files_.tensors.push_back(std::move(found->second));
      found_.erase(found);
    }
    if (files_.config.tie_word_embeddings)
      if (const auto head = found_.find("thinker.lm_head.weight"); head != found_.end()) {
        compare(head->second, {files_.config.text.vocab_size, files_.config.text.hidden_size});
        files_.tied_head = std::move(head->second);
        found_.erase(head);
      }
    for (const auto& [name, tensor] : found_)
      problem(Errc::corrupt, "tensor " + excerpt(tensor.entry.name, 200) + " in " +
                                 tensor.file->path().filename().string() +
                                 " is none that config.json asks for");
  }

  void compare(const BaseTensor& tensor, const std::vector<std::int64_t>& shape) {
    if (tensor.entry.shape != shape)
      problem(Errc::corrupt, "tensor " + tensor.name + " has the shape " +
                                 shape_text(tensor.entry.shape) + "; config.json asks for " +
                                 shape_text(shape));
    if (!can_be_converted(tensor.entry.type))
      problem(Errc::unsupported, "tensor " + tensor.name + " has the type " +
                                     *safetensors_type_name(tensor.entry.type) +
                                     "; supported: F32, BF16 and F16");
  }

  BaseFiles files_;
  bool has_config_ = false;
  std::map<std::string, BaseTensor> found_;
};

}  // namespace

Result<BaseFiles> find_base_files(const fs::path& folder) {
  if (is_shipped_base(folder.native())) return Search(folder).run_shipped();
  std::error_code error;
  if (!fs::is_directory(folder, error))
    return fail(Errc::not_found, "there is no folder " + folder.string());
  return Search(folder).run();
}

Result<BaseFiles> open_base_files(const fs::path& folder) {
  auto files = find_base_files(folder);
  if (!files || files->problems.empty()) return files;
  std::vector<std::string> texts;
  for (const Error& problem : files->problems) texts.push_back(problem.message);
  return fail(files->problems.front().code,
              "the base " + folder.string() + " cannot be used: " + list_problems(texts));
}

}  // namespace crabcast::model
