// ave, unav, avvp: things that appear and sound between two whole seconds of a 10 s clip.

#include <algorithm>
#include <array>

#include "data/synth_sample.h"

namespace crabcast::data {
namespace {

constexpr double kSeconds = 10;

struct Happening {
  Thing thing;
  Event event;
  [[nodiscard]] bool seen() const { return event.modality != Modality::audio; }
  [[nodiscard]] bool heard() const { return event.modality != Modality::visual; }
};

// Events in the order of their start, then of their name.
std::vector<Happening> make_happenings(int count, bool with_modality, const SynthRequest& request,
                                       Rng& rng) {
  constexpr std::array kModalities = {Modality::audio, Modality::visual, Modality::both};
  // One place more than events: a thing that only stands there, silent.
  std::vector<Thing> things = things_in_a_row(count + 1, rng);
  rng.shuffle(things);
  set_kind(things, 0, static_cast<Kind>(request.turn(kKindCount)));
  std::vector<Happening> happenings;
  for (int i = 0; i < count; ++i) {
    const Thing& thing = things[static_cast<std::size_t>(i)];
    const int start = rng.range(0, 7), end = rng.range(start + 2, 10);
    const Modality modality =
        i == 0 ? kModalities[static_cast<std::size_t>(request.turn(3))] : rng.pick(kModalities);
    happenings.push_back(
        {thing,
         {thing.name(), double(start), double(end), with_modality ? modality : Modality::none}});
  }
  std::ranges::sort(happenings, [](const Happening& a, const Happening& b) {
    return std::pair(a.event.start, a.event.name) < std::pair(b.event.start, b.event.name);
  });
  happenings.push_back({things.back(), {"", 0, kSeconds, Modality::visual}});
  return happenings;
}

}  // namespace

Result<Scene> render_time(const SynthRequest& request, Rng& rng) {
  const std::string_view id = request.table().id;
  const bool modality = id == "avvp";
  const int count = id == "ave" ? 1 : rng.range(1, 2);
  std::vector<Happening> happenings = make_happenings(count, modality, request, rng);

  const std::string clip = request.clip();
  Scene scene;
  VideoFormat format;
  format.width = format.height = 112;
  const Canvas behind = background(format.width, format.height, rng);
  CRABCAST_TRY(add_video(scene, "video/" + clip + ".mp4", format, kSeconds, behind,
                         [&](Canvas& canvas, double t) {
                           for (const Happening& h : happenings)
                             if (h.seen() && h.event.start <= t && t < h.event.end)
                               canvas.draw(h.thing.swaying(t));
                         }));
  Waveform wave(kSeconds, rng);
  for (const Happening& h : happenings)
    if (h.heard()) wave.add_loop(timbre(h.thing.kind, rng), 0.8, h.event.start, h.event.end);
  CRABCAST_TRY(add_audio(scene, "audio/" + clip + ".mp3", wave));

  happenings.pop_back();  // what only stands there is no event
  std::vector<Event> events;
  std::string reasoning;
  for (const Happening& h : happenings) {
    events.push_back(h.event);
    reasoning += (reasoning.empty() ? "" : ", ") + h.thing.name() + " " +
                 std::string(info(h.thing.kind).verb);
  }
  if (modality) reasoning = std::string(number_word(count)) + (count == 1 ? " event" : " events");
  const std::string text = format_events(events);
  scene.fields = {{"video_path", clip + ".mp4"},
                  {"audio_path", clip + ".mp3"},
                  {"vid", clip},
                  {"filename", clip + "_0_10"},
                  {"event", modality ? text : events.front().name},
                  {"start_time", static_cast<int>(events.front().start)},
                  {"end_time", static_cast<int>(events.front().end)},
                  {"label_content", make_target(reasoning, text)}};
  return scene;
}

}  // namespace crabcast::data
