// A disk that fails on demand, under the stores, from the n-th operation on: full, read-only,
// broken, or dead (as at power loss) with every byte forgotten that was not synced.
#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace crabcast::storage {

class FaultFs : public rocksdb::FileSystemWrapper {
 public:
  enum class Fault { none, disk_full, read_only, io_error, power_loss };
  using Status = rocksdb::IOStatus;
  using Options = rocksdb::IOOptions;
  using Debug = rocksdb::IODebugContext;

  FaultFs() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  static const char* kClassName() { return "FaultFs"; }
  const char* Name() const override { return kClassName(); }

  // The fault begins after `operations` more operations that write.
  void arm(Fault fault, int operations) {
    const std::scoped_lock lock(mutex_);
    fault_ = fault;
    left_ = operations;
    refusals_ = 0;
  }
  void disarm() { arm(Fault::none, 0); }
  [[nodiscard]] bool struck() {
    const std::scoped_lock lock(mutex_);
    return fault_ != Fault::none && left_ <= 0;
  }
  // Waits until so many operations have failed; false when that takes longer.
  [[nodiscard]] bool refuses(int operations, std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    return refused_.wait_for(lock, patience, [&] { return refusals_ >= operations; });
  }
  void set_free_space(std::optional<std::uint64_t> bytes) { free_space_ = bytes; }

  // After the store is closed: cuts each file to its synced bytes, removes names whose folder was
  // not synced.
  void forget_unsynced() {
    const std::scoped_lock lock(mutex_);
    for (const auto& [path, file] : files_) {
      std::error_code error;
      if (!file.name_synced) {
        std::filesystem::remove(path, error);
      } else if (std::filesystem::file_size(path, error) > file.synced && !error) {
        std::filesystem::resize_file(path, file.synced, error);
      }
    }
    files_.clear();
  }

  Status NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                         std::unique_ptr<rocksdb::FSWritableFile>* result, Debug* debug) override {
    if (auto status = strike(); !status.ok()) return status;
    std::unique_ptr<rocksdb::FSWritableFile> file;
    auto status = target()->NewWritableFile(path, options, &file, debug);
    if (!status.ok()) return status;
    {
      const std::scoped_lock lock(mutex_);
      files_[path] = {};
    }
    *result = std::make_unique<File>(this, path, std::move(file));
    return status;
  }

  Status ReopenWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                            std::unique_ptr<rocksdb::FSWritableFile>* result,
                            Debug* debug) override {
    if (auto status = strike(); !status.ok()) return status;
    std::unique_ptr<rocksdb::FSWritableFile> file;
    auto status = target()->ReopenWritableFile(path, options, &file, debug);
    if (status.ok()) *result = std::make_unique<File>(this, path, std::move(file));
    return status;
  }

  Status NewDirectory(const std::string& path, const Options& options,
                      std::unique_ptr<rocksdb::FSDirectory>* result, Debug* debug) override {
    std::unique_ptr<rocksdb::FSDirectory> folder;
    auto status = target()->NewDirectory(path, options, &folder, debug);
    if (status.ok()) *result = std::make_unique<Folder>(this, path, std::move(folder));
    return status;
  }

  Status RenameFile(const std::string& from, const std::string& to, const Options& options,
                    Debug* debug) override {
    if (auto status = strike(); !status.ok()) return status;
    auto status = target()->RenameFile(from, to, options, debug);
    const std::scoped_lock lock(mutex_);
    if (auto node = files_.extract(from); status.ok() && !node.empty()) {
      // Its old name is gone for good or not: the tests need the new one to be there.
      node.key() = to;
      node.mapped().name_synced = true;
      files_.erase(to);
      files_.insert(std::move(node));
    }
    return status;
  }

  Status LinkFile(const std::string& from, const std::string& to, const Options& options,
                  Debug* debug) override {
    if (auto status = strike(); !status.ok()) return status;
    auto status = target()->LinkFile(from, to, options, debug);
    const std::scoped_lock lock(mutex_);
    if (status.ok() && files_.contains(from)) {
      FileState state = files_[from];
      state.name_synced = false;
      files_[to] = state;
    }
    return status;
  }

  Status DeleteFile(const std::string& path, const Options& options, Debug* debug) override {
    if (is(Fault::power_loss)) return Status::IOError("no power");
    if (is(Fault::read_only)) return Status::IOError("Read-only file system");
    const std::scoped_lock lock(mutex_);
    files_.erase(path);
    return target()->DeleteFile(path, options, debug);
  }

  Status GetFreeSpace(const std::string& path, const Options& options, std::uint64_t* bytes,
                      Debug* debug) override {
    if (!free_space_) return target()->GetFreeSpace(path, options, bytes, debug);
    *bytes = *free_space_;
    return Status::OK();
  }

 private:
  struct FileState {
    std::uint64_t written = 0;
    std::uint64_t synced = 0;
    bool name_synced = false;
  };

  class File : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(FaultFs* fs, std::string path, std::unique_ptr<rocksdb::FSWritableFile> file)
        : FSWritableFileOwnerWrapper(std::move(file)), fs_(fs), path_(std::move(path)) {}

    Status Append(const rocksdb::Slice& data, const Options& options, Debug* debug) override {
      const Status fault = fs_->strike();
      // A full disk takes a part of the bytes.
      const rocksdb::Slice taken(data.data(), fault.ok() ? data.size() : data.size() / 2);
      if (fault.ok() || fault.IsNoSpace()) {
        auto status = target()->Append(taken, options, debug);
        if (!status.ok()) return status;
        fs_->wrote(path_, taken.size());
      }
      return fault;
    }
    Status Append(const rocksdb::Slice& data, const Options& options,
                  const rocksdb::DataVerificationInfo& /*info*/, Debug* debug) override {
      return Append(data, options, debug);
    }
    Status Sync(const Options& options, Debug* debug) override {
      if (auto status = fs_->strike(); !status.ok()) return status;
      auto status = target()->Sync(options, debug);
      if (status.ok()) fs_->synced(path_);
      return status;
    }
    Status Fsync(const Options& options, Debug* debug) override {
      if (auto status = fs_->strike(); !status.ok()) return status;
      auto status = target()->Fsync(options, debug);
      if (status.ok()) fs_->synced(path_);
      return status;
    }

   private:
    FaultFs* fs_;
    std::string path_;
  };

  class Folder : public rocksdb::FSDirectoryWrapper {
   public:
    Folder(FaultFs* fs, std::string path, std::unique_ptr<rocksdb::FSDirectory> folder)
        : FSDirectoryWrapper(std::move(folder)), fs_(fs), path_(std::move(path)) {}
    Status Fsync(const Options& options, Debug* debug) override {
      if (auto status = fs_->strike(); !status.ok()) return status;
      auto status = FSDirectoryWrapper::Fsync(options, debug);
      if (status.ok()) fs_->names_synced(path_);
      return status;
    }
    Status FsyncWithDirOptions(const Options& options, Debug* debug,
                               const rocksdb::DirFsyncOptions& folder_options) override {
      if (auto status = fs_->strike(); !status.ok()) return status;
      auto status = FSDirectoryWrapper::FsyncWithDirOptions(options, debug, folder_options);
      if (status.ok()) fs_->names_synced(path_);
      return status;
    }

   private:
    FaultFs* fs_;
    std::string path_;
  };

  Status strike() {
    const std::scoped_lock lock(mutex_);
    if (fault_ == Fault::none || left_-- > 0) return Status::OK();
    left_ = 0;
    ++refusals_;
    refused_.notify_all();
    if (fault_ == Fault::power_loss) return Status::IOError("no power");
    if (fault_ == Fault::read_only) return Status::IOError("Read-only file system");
    if (fault_ == Fault::io_error) return Status::IOError("Input/output error");
    // As the real file system reports ENOSPC.
    Status full = Status::NoSpace("No space left on device");
    full.SetRetryable(true);
    return full;
  }

  bool is(Fault fault) {
    const std::scoped_lock lock(mutex_);
    return fault_ == fault && left_ <= 0;
  }

  void wrote(const std::string& path, std::uint64_t bytes) {
    const std::scoped_lock lock(mutex_);
    if (const auto file = files_.find(path); file != files_.end()) file->second.written += bytes;
  }
  void synced(const std::string& path) {
    const std::scoped_lock lock(mutex_);
    if (const auto file = files_.find(path); file != files_.end())
      file->second.synced = file->second.written;
  }
  void names_synced(const std::filesystem::path& folder) {
    const std::scoped_lock lock(mutex_);
    for (auto& [path, file] : files_)
      if (std::filesystem::path(path).parent_path() == folder) file.name_synced = true;
  }

  std::mutex mutex_;
  Fault fault_ = Fault::none;
  int left_ = 0;
  int refusals_ = 0;
  std::condition_variable refused_;
  std::optional<std::uint64_t> free_space_;
  std::map<std::string, FileState> files_;
};

// An environment over a FaultFs.
struct FaultDisk {
  std::shared_ptr<FaultFs> fs = std::make_shared<FaultFs>();
  std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(fs);
};

}  // namespace crabcast::storage
