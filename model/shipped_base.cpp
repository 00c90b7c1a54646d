#include "model/shipped_base.h"

#include <cstddef>
#include <span>

// The assembler copies the file as it is (CMake gives its path).
__asm__(
    ".pushsection .rodata\n"
    ".balign 64\n"
    "crabcast_nano_begin:\n"
    ".incbin \"" CRABCAST_NANO_WEIGHTS
    "\"\n"
    "crabcast_nano_end:\n"
    ".popsection\n");

extern "C" {
__attribute__((visibility("hidden"))) extern const std::byte crabcast_nano_begin[];
__attribute__((visibility("hidden"))) extern const std::byte crabcast_nano_end[];
}

namespace crabcast::model {

Result<std::shared_ptr<const SafetensorsFile>> open_shipped_weights() {
  auto file = DiskFile::in_memory("nano/model.safetensors",
                                  std::span(crabcast_nano_begin, crabcast_nano_end));
  if (!file) return fail(file.error());
  return SafetensorsFile::open(std::move(*file));
}

}  // namespace crabcast::model
