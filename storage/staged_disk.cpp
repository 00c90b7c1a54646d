#include "storage/staged_disk.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <memory>
#include <string>

#include "protocol/fault_points.h"

namespace crabcast::storage {
namespace {

// What the kernel would have said.
rocksdb::IOStatus io_status(const Status& staged) {
  if (staged) return rocksdb::IOStatus::OK();
  return staged.error().code == Errc::disk_full
             ? rocksdb::IOStatus::NoSpace(staged.error().message)
             : rocksdb::IOStatus::IOError(staged.error().message);
}

class StagedFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  using FSWritableFileOwnerWrapper::FSWritableFileOwnerWrapper;
  using Options = rocksdb::IOOptions;
  using Debug = rocksdb::IODebugContext;

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const Options& options,
                           Debug* debug) override {
    if (auto staged = io_status(fault_point("disk.append")); !staged.ok()) return staged;
    return FSWritableFileOwnerWrapper::Append(data, options, debug);
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const Options& options,
                           const rocksdb::DataVerificationInfo& info, Debug* debug) override {
    if (auto staged = io_status(fault_point("disk.append")); !staged.ok()) return staged;
    return FSWritableFileOwnerWrapper::Append(data, options, info, debug);
  }
  rocksdb::IOStatus Sync(const Options& options, Debug* debug) override {
    if (auto staged = io_status(fault_point("disk.sync")); !staged.ok()) return staged;
    return FSWritableFileOwnerWrapper::Sync(options, debug);
  }
  rocksdb::IOStatus Fsync(const Options& options, Debug* debug) override {
    if (auto staged = io_status(fault_point("disk.sync")); !staged.ok()) return staged;
    return FSWritableFileOwnerWrapper::Fsync(options, debug);
  }
};

class StagedFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  StagedFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  static const char* kClassName() { return "StagedFileSystem"; }
  const char* Name() const override { return kClassName(); }

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSWritableFile> file;
    auto status = target()->NewWritableFile(path, options, &file, debug);
    if (status.ok()) *result = std::make_unique<StagedFile>(std::move(file));
    return status;
  }
};

}  // namespace

rocksdb::Env* staged_disk() {
  if (!faults::armed) return nullptr;
  static const std::unique_ptr<rocksdb::Env> env =
      rocksdb::NewCompositeEnv(std::make_shared<StagedFileSystem>());
  return env.get();
}

}  // namespace crabcast::storage
