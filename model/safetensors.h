// safetensors, the file format of Hugging Face for tensors (github.com/huggingface/safetensors):
//
//     8 bytes      length N of the header, little-endian
//     N bytes      JSON: {"__metadata__": {text: text}, NAME: {"dtype", "shape", "data_offsets"}}
//     the rest     the tensors' bytes, without a hole and without an overlap
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/disk_file.h"
#include "model/named_tensor.h"
#include "protocol/error.h"

namespace crabcast::model {

// A file that was checked as a whole when it was opened: whatever a hostile header says, entries
// lie inside of the file and do not overlap. Types are U8, I8, I16, I32, I64, F16, BF16, F32 and
// F64; at most 8 dimensions and 16 MiB of header. Safe to use from several threads.
//
// The file must not change while it is in use. If it becomes shorter, `read` answers corrupt, but
// touching a view of what is gone ends the process with SIGBUS: a job's worker is then started
// again and finds the file broken.
class SafetensorsFile {
 public:
  struct Entry {
    std::string name;
    at::ScalarType type = at::kFloat;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0, end = 0;  // bytes in the file's data part
  };

  // corrupt, with the reason and the tensor's name: whatever breaks the format above.
  static Result<std::shared_ptr<const SafetensorsFile>> open(const std::filesystem::path& file);
  static Result<std::shared_ptr<const SafetensorsFile>> open(DiskFile file);

  [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }  // by name
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // A view of the mapped file that keeps the map alive. Never to be written to: the pages are read
  // only, and a write ends the process. Bytes that are not aligned for their type are copied.
  [[nodiscard]] at::Tensor tensor(const Entry& entry) const;
  // Where the view would lie: the greatest power of two, up to 4096, that divides its address.
  [[nodiscard]] std::size_t alignment(const Entry& entry) const;
  // The bytes of `entry` from `offset` on, without touching the map.
  Status read(const Entry& entry, std::uint64_t offset, std::span<std::byte> into) const;
  // Lets the kernel read ahead from there, into the entries after this one if need be.
  void will_read(const Entry& entry, std::uint64_t offset, std::uint64_t bytes) const;

 private:
  explicit SafetensorsFile(DiskFile file) : file_(std::move(file)) {}

  DiskFile file_;
  std::shared_ptr<const std::byte> map_;
  std::uint64_t data_begin_ = 0;
  std::vector<Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Written under another name, synced and renamed: the file is there as a whole or not at all, and
// one that was there is replaced. Each tensor whose size is a multiple of 64 bytes begins at a
// multiple of 64 in the file, so that it can be used without a copy. invalid_argument: a name that
// is given twice or is not UTF-8, or a tensor that is not contiguous on the host.
Status write_safetensors(const std::filesystem::path& file, const std::vector<NamedTensor>& tensors,
                         const std::map<std::string, std::string>& metadata);

// A tensor that is made when its turn comes, so that a file may be larger than the memory.
struct TensorSource {
  std::string name;
  at::ScalarType type = at::kFloat;
  std::vector<std::int64_t> shape;
  std::function<Result<at::Tensor>()> make;  // contiguous, host, of that type and shape
};

// The same; `make` is called once for each tensor, in the order given.
Status stream_safetensors(const std::filesystem::path& file,
                          const std::vector<TensorSource>& tensors,
                          const std::map<std::string, std::string>& metadata);

}  // namespace crabcast::model
