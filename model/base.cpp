#include "model/base.h"

#include <ATen/ATen.h>

#include <utility>

#include "model/base_files.h"
#include "model/base_reader.h"
#include "model/guarded.h"
#include "protocol/base_location.h"

namespace crabcast::model {
namespace {

Result<Base> read_base(const std::string& place, at::Device device, at::ScalarType type) {
  auto files = open_base_files(place);
  if (!files) return fail(files.error());
  CRABCAST_TRY(check_tied_head(*files));
  Base base;
  base.config = files->config;
  BaseReader reader;
  for (const BaseTensor& tensor : files->tensors) {
    auto loaded = reader.load(tensor, device, type, Sharing::map);
    if (!loaded) return fail(loaded.error());
    base.weights.emplace(tensor.name, std::move(*loaded));
  }
  tie_head(base.config, base.weights);
  base.hash = reader.hash();
  return base;
}

}  // namespace

Result<Base> open_base(const std::string& base, at::Device device, at::ScalarType type) {
  return guarded("opening the base " + base, "Use a smaller base or a machine with more memory",
                 [&]() -> Result<Base> {
                   auto place = locate_base(base, {});
                   CRABCAST_TRY(place);
                   return read_base(*place, device, type);
                 });
}

}  // namespace crabcast::model
