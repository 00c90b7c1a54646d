#include "data/synth_picture.h"

#include <array>
#include <cstdio>

namespace crabcast::data {

Result<Found> find_thing(const Thing& thing) {
  Found found{.mask = mask_of(thing.sprite(), kStillSide, kStillSide)};
  const auto box = box_of(found.mask, kStillSide);
  if (!box) return fail(Errc::internal, "a thing is not in its picture");
  found.box = *box;
  found.answer =
      thing.name() + " " + format_box(*box) + " " + points_text(found.mask, kStillSide, *box);
  return found;
}

Status add_still(Scene& scene, const std::string& path, const Canvas& canvas) {
  auto bytes = encode_jpeg(canvas);
  if (!bytes) return fail(bytes.error().within(path));
  scene.files.push_back({path, std::move(*bytes)});
  return {};
}

Status add_mask(Scene& scene, const std::string& path, const std::vector<std::uint8_t>& mask) {
  auto bytes = encode_png(mask, kStillSide, kStillSide);
  if (!bytes) return fail(bytes.error().within(path));
  scene.files.push_back({path, std::move(*bytes)});
  return {};
}

StillPaths still_paths(const SynthRequest& request, int frame, std::size_t object) {
  const std::string_view id = request.table().id;
  const bool referred = id == "ref_avs";
  StillPaths paths;
  paths.clip = request.clip() + (referred ? "_0_10000" : "_0_5000");
  paths.folder = (referred ? "REFAVS/media/" : id == "ms3" ? "AVS/v1m/" : "AVS/v1s/") + paths.clip;
  paths.picture = paths.folder + "/frames/" + std::to_string(frame) + ".jpg";
  paths.sound = paths.folder + "/audio.wav";
  paths.uid = paths.clip + "_" + std::to_string(frame);
  paths.mask = paths.folder + "/labels_semantic/" + std::to_string(frame) + ".png";
  if (referred) {
    std::array<char, 16> name{};
    std::snprintf(name.data(), name.size(), "%05d.png", frame);
    paths.mask = paths.folder + "/gt_mask/fid_" + std::to_string(object) + "/" + name.data();
    paths.uid += "_" + std::to_string(object);
  }
  return paths;
}

bool is_unseen(Kind kind) {
  return kind == Kind::siren || kind == Kind::bird;
}

}  // namespace crabcast::data
