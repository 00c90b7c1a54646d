// What the tests of the stores share: a temporary folder, records and checkpoints with known bytes.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "storage/job_store.h"

namespace crabcast::storage {

// In memory where it can be: the stores sync thousands of times in these tests, and none of them
// depends on what the disk below makes of that.
inline std::filesystem::path place_for_tests() {
  const std::filesystem::path memory = "/dev/shm";
  std::error_code error;
  const auto space = std::filesystem::space(memory, error);
  if (!error && space.available > (256ULL << 20)) return memory;
  return std::filesystem::temp_directory_path();
}

class TempFolder {
 public:
  TempFolder() {
    std::string name = (place_for_tests() / "crabcast-storage-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// The value, or the end of the test with the error's text.
template <class T>
T must(Result<T> result) {
  if (!result)
    throw std::runtime_error(std::string(to_string(result.error().code)) + ": " +
                             result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

inline pb::CommitRecord commit_record(std::uint64_t step) {
  pb::CommitRecord record;
  record.set_step(step);
  record.set_generation(1);
  record.set_gradient_checksum(step * 0x9E3779B97F4A7C15ULL);
  for (std::uint32_t slot = 0; slot < 8; ++slot) {
    auto* sample = record.add_samples();
    sample->set_dataset(slot);
    sample->set_index(step * 8 + slot);
  }
  return record;
}

// Bytes that no other chunk has, so that they can be found inside the store's files.
inline std::string chunk_bytes(std::uint64_t checkpoint, std::uint32_t index, std::size_t size) {
  std::mt19937_64 random(checkpoint << 20 | index);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random() >> 56);
  return bytes;
}

inline std::span<const std::byte> as_span(const std::string& bytes) {
  return std::as_bytes(std::span(bytes.data(), bytes.size()));
}

struct CheckpointShape {
  std::uint32_t chunks = 3;
  std::size_t chunk_bytes = 16 << 10;
};

inline pb::CheckpointManifest manifest_of(std::uint64_t id, const CheckpointShape& shape = {}) {
  pb::CheckpointManifest manifest;
  manifest.set_id(id);
  manifest.set_step(id);
  manifest.set_ledger_step(id);
  for (std::uint32_t i = 0; i < shape.chunks; ++i) {
    *manifest.add_chunks() = make_chunk_entry(i, as_span(chunk_bytes(id, i, shape.chunk_bytes)));
  }
  manifest.set_bytes(shape.chunks * shape.chunk_bytes);
  auto* tensor = manifest.add_tensors();
  tensor->set_name("adapter");
  tensor->set_dtype(pb::DTYPE_UINT8);
  tensor->add_shape(static_cast<std::int64_t>(manifest.bytes()));
  tensor->set_bytes(manifest.bytes());
  return manifest;
}

inline Status write_checkpoint(JobStore& store, std::uint64_t id,
                               const CheckpointShape& shape = {}) {
  auto writer = store.begin_checkpoint(CheckpointId(id));
  if (!writer) return fail(writer.error());
  const pb::CheckpointManifest manifest = manifest_of(id, shape);
  for (std::uint32_t i = 0; i < shape.chunks; ++i) {
    const std::string bytes = chunk_bytes(id, i, shape.chunk_bytes);
    CRABCAST_TRY((*writer)->put_chunk(manifest.chunks(static_cast<int>(i)), as_span(bytes)));
  }
  return (*writer)->commit(manifest);
}

inline std::vector<std::uint64_t> ids_of(const JobStore& store) {
  std::vector<std::uint64_t> ids;
  for (const CheckpointId id : must(store.checkpoint_ids())) ids.push_back(id.value());
  return ids;
}

// Every visible checkpoint reads back with the bytes that were written.
inline void expect_all_verify(const JobStore& store) {
  for (const CheckpointId id : must(store.checkpoint_ids())) {
    const VerifyReport report = must(store.verify(id));
    EXPECT_TRUE(report.ok()) << (report.ok() ? "" : report.problems.front());
    EXPECT_GT(report.chunks, 0U);
  }
}

// The ledger holds steps 1 to at least `acknowledged`, each as it was written.
inline void expect_ledger(const JobStore& store, std::uint64_t acknowledged) {
  std::uint64_t last = 0;
  must(store.for_each_commit(Step(0), [&last](const pb::CommitRecord& record) {
    EXPECT_EQ(record.SerializeAsString(), commit_record(record.step()).SerializeAsString());
    last = record.step();
    return true;
  }));
  EXPECT_GE(last, acknowledged);
}

inline std::size_t files_in(const std::filesystem::path& folder) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) count += entry.exists();
  return count;
}

inline std::uint64_t bytes_of_sst_files(const std::filesystem::path& folder) {
  std::uint64_t sum = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".sst") sum += entry.file_size();
  return sum;
}

}  // namespace crabcast::storage
