// Zip archives whose entries are stored as they are, as torch.save writes them (PKWARE
// APPNOTE 6.3).
//
// Strict on purpose: what archive tools quietly mend is refused here. No entry is compressed, so
// none is larger than the file. Debian's zip libraries do not say where an entry's bytes lie, and a
// tensor shall be a view of the mapped file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/disk_file.h"
#include "protocol/error.h"

namespace crabcast::model {

struct ZipEntry {
  std::string name;
  std::uint64_t begin = 0, size = 0;  // of its bytes in the file
  std::uint32_t crc32 = 0;
};

// All entries, in the order in which their bytes lie. corrupt, with the entry's name: one that is
// compressed or encrypted, lies outside of the file or over another one, or has another's name or
// one that is a path out of its folder; a second part of the archive, or bytes behind its end.
Result<std::vector<ZipEntry>> read_zip_entries(const DiskFile& file);

// Reads the entry's bytes through; corrupt when they do not match its CRC-32.
Status check_zip_entry(const DiskFile& file, const ZipEntry& entry);

}  // namespace crabcast::model
