#include "model/base_import.h"

#include <ATen/core/Tensor.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "model/base_files.h"
#include "model/base_reader.h"
#include "model/disk_file.h"
#include "model/guarded.h"
#include "protocol/base_location.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostTextBytes = 256ULL << 20;  // of config.json and tokenizer.json
constexpr const char* kTextFiles[] = {"config.json", "tokenizer.json"};

// The folder that becomes BASES/NAME. It is locked, so that two imports cannot write into one, and
// removed when it was not published.
class UnfinishedFolder {
 public:
  static Result<UnfinishedFolder> create(const fs::path& bases, const std::string& name) {
    const fs::path path = bases / ("." + name + ".partial");
    std::error_code error;
    fs::create_directories(path, error);
    if (error) return fail(error_from_errno(error.value(), "making the folder " + path.string()));
    UnfinishedFolder folder(path, ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder.descriptor_ < 0) return fail(error_from_errno(errno, "opening " + path.string()));
    if (::flock(folder.descriptor_, LOCK_EX | LOCK_NB) != 0 || !folder.is_still_there()) {
      folder.owned_ = false;
      return fail(Errc::already_exists,
                  "another process imports a base under the name " + name + " at this moment");
    }
    for (const auto& left : fs::directory_iterator(path, error)) fs::remove_all(left, error);
    if (error) return fail(error_from_errno(error.value(), "clearing " + path.string()));
    return folder;
  }

  UnfinishedFolder(UnfinishedFolder&& other) noexcept
      : path_(std::move(other.path_)),
        descriptor_(std::exchange(other.descriptor_, -1)),
        owned_(std::exchange(other.owned_, false)) {}
  UnfinishedFolder& operator=(UnfinishedFolder&&) = delete;
  ~UnfinishedFolder() {
    std::error_code ignored;  // the next import of this name removes it
    if (owned_) fs::remove_all(path_, ignored);
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  [[nodiscard]] const fs::path& path() const { return path_; }

  Status publish(const fs::path& as) {
    CRABCAST_TRY(sync_folder(path_));
    if (::rename(path_.c_str(), as.c_str()) != 0)
      return fail(error_from_errno(errno, "naming " + as.string()));
    owned_ = false;
    return sync_folder(as.parent_path());
  }

 private:
  UnfinishedFolder(fs::path path, int descriptor)
      : path_(std::move(path)), descriptor_(descriptor) {}

  // False when another import published or removed it before this one got the lock.
  [[nodiscard]] bool is_still_there() const {
    struct stat here {
    }, there{};
    return ::fstat(descriptor_, &here) == 0 && ::stat(path_.c_str(), &there) == 0 &&
           here.st_ino == there.st_ino && here.st_dev == there.st_dev;
  }

  fs::path path_;
  int descriptor_ = -1;
  bool owned_ = true;
};

class Import {
 public:
  Import(const ImportOptions& options, const BaseFiles& files, const fs::path& folder,
         const std::function<void(std::uint64_t done, std::uint64_t total)>& progress)
      : options_(options), files_(files), folder_(folder), progress_(progress) {
    for (const BaseTensor& tensor : files.tensors) {
      if (shards_.empty() || shards_.back().bytes + bytes_as_written(tensor) > options.shard_bytes)
        shards_.emplace_back();
      shards_.back().tensors.push_back(&tensor);
      shards_.back().bytes += bytes_as_written(tensor);
      read_bytes_ += tensor.bytes();
      result_.bytes += bytes_as_written(tensor);
    }
    result_.tensors = files.tensors.size();
    result_.shards = shards_.size();
  }

  Result<ImportedBase> run() {
    CRABCAST_TRY(write_shards());
    for (const char* name : kTextFiles) {
      auto text = read_whole_file(options_.source / name, kMostTextBytes);
      if (!text) return fail(text.error());
      CRABCAST_TRY(write_whole_file(folder_ / name, *text));
    }
    CRABCAST_TRY(verify());
    return result_;
  }

 private:
  struct Shard {
    std::vector<const BaseTensor*> tensors;
    std::uint64_t bytes = 0;
  };

  [[nodiscard]] at::ScalarType type_as_written(const BaseTensor& tensor) const {
    if (!options_.type) return tensor.entry.type;
    return *options_.type == Precision::bfloat16 ? at::kBFloat16 : at::kFloat;
  }
  [[nodiscard]] std::uint64_t bytes_as_written(const BaseTensor& tensor) const {
    return tensor.bytes() / c10::elementSize(tensor.entry.type) *
           c10::elementSize(type_as_written(tensor));
  }

  [[nodiscard]] std::string shard_name(std::size_t index) const {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, shards_.size());
    return name;
  }

  std::function<void(std::uint64_t)> progress_from(std::uint64_t before) {
    return [this, before](std::uint64_t done) {
      if (progress_) progress_(before + done, read_bytes_ + result_.bytes);
    };
  }

  Status write_shards() {
    BaseReader reader(progress_from(0));
    BaseHasher written;
    auto map = nlohmann::ordered_json::object();
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      std::vector<TensorSource> sources;
      for (const BaseTensor* tensor : shards_[i].tensors) {
        const at::ScalarType type = type_as_written(*tensor);
        map[tensor->name] = shard_name(i);
        sources.push_back(
            {tensor->name, type, tensor->entry.shape, [&, tensor, type] {
               auto made = reader.load(*tensor, at::kCPU, type, Sharing::copy);
               if (!made) return made;
               written.begin({tensor->name, tensor->entry.shape}, type);
               written.add({static_cast<const std::byte*>(made->const_data_ptr()), made->nbytes()});
               return made;
             }});
      }
      CRABCAST_TRY(stream_safetensors(folder_ / shard_name(i), sources, {{"format", "pt"}}));
    }
    result_.hash = written.hex();
    const nlohmann::ordered_json index = {{"metadata", {{"total_size", result_.bytes}}},
                                          {"weight_map", map}};
    return write_whole_file(folder_ / "model.safetensors.index.json", index.dump(2) + "\n");
  }

  // Reads back what is on the disk.
  Status verify() {
    auto files = open_base_files(folder_);
    if (!files) return fail(files.error());
    BaseReader reader(progress_from(read_bytes_));
    for (const BaseTensor& tensor : files->tensors) CRABCAST_TRY(reader.skim(tensor));
    if (reader.hash() == result_.hash) return {};
    return fail(Errc::corrupt, "what was written to " + folder_.string() +
                                   " reads back differently: check the disk");
  }

  const ImportOptions& options_;
  const BaseFiles& files_;
  const fs::path folder_;
  const std::function<void(std::uint64_t done, std::uint64_t total)>& progress_;
  std::vector<Shard> shards_;
  std::uint64_t read_bytes_ = 0;
  ImportedBase result_;
};

Result<ImportedBase> import_checked(
    const ImportOptions& options,
    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress) {
  CRABCAST_TRY(check_base_name(options.name));
  auto files = open_base_files(options.source);
  if (!files) return fail(files.error());
  CRABCAST_TRY(check_tied_head(*files));
  std::error_code error;
  if (!fs::is_regular_file(options.source / "tokenizer.json", error))
    return fail(Errc::not_found, "there is no tokenizer.json in " + options.source.string() +
                                     ": copy it there from where the base was published");
  const fs::path target = options.bases / options.name;
  if (fs::exists(target, error))
    return fail(Errc::already_exists, "there is a base " + options.name + " already, in " +
                                          target.string() +
                                          ": choose another name or remove that folder");
  auto folder = UnfinishedFolder::create(options.bases, options.name);
  if (!folder) return fail(folder.error());
  auto imported = Import(options, *files, folder->path(), progress).run();
  if (!imported) return fail(imported.error());
  CRABCAST_TRY(folder->publish(target));
  imported->folder = target;
  return imported;
}

}  // namespace

Result<ImportedBase> import_base(
    const ImportOptions& options,
    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress) {
  return guarded("importing " + options.source.string(), "Import on a machine with more memory",
                 [&] { return import_checked(options, progress); });
}

}  // namespace crabcast::model
