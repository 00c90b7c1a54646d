// The disk under the stores of a process in which faults are staged (protocol/fault_points.h):
// points disk.append and disk.sync. Internal to storage/.
#pragma once

namespace rocksdb {
class Env;
}

namespace crabcast::storage {

// Null unless faults are armed: then the real disk is used. Lives as long as the process.
rocksdb::Env* staged_disk();

}  // namespace crabcast::storage
