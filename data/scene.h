// The picture side of a synthetic scene: named things, shapes and a small canvas.
//
// Lengths and places are shares of the picture's side (0 to 1, y downwards); sprites are drawn with
// smooth edges. Masks use only plain arithmetic for an unturned sprite, so a box is the same on
// every machine. Nothing here is shared between threads.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/answers.h"

namespace crabcast::data {

struct Colour {
  std::string_view name;
  std::uint8_t r = 0, g = 0, b = 0;
};
// red green blue yellow purple orange
std::span<const Colour> colours();

enum class Shape { disc, dome, bar, ring, diamond, square, cross, star };

// A kind of thing: how it looks and what it is called. Its timbre is in data/scene_sound.h.
enum class Kind { drum, bell, flute, horn, siren, clock, motor, bird };
inline constexpr std::size_t kKindCount = 8;
struct KindInfo {
  std::string_view name;
  Shape shape;
  Colour colour;          // where colour is not asked for, each kind has its own
  std::string_view verb;  // for captions: "beats"
};
const KindInfo& info(Kind kind);

struct Sprite {
  Shape shape = Shape::disc;
  Colour colour = {};
  double x = 0.5, y = 0.5;  // centre
  double radius = 0.1;      // half of the longer side
  double aspect = 1;        // height / width
  double angle = 0;         // radians, clockwise
};

class Canvas {
 public:
  Canvas(int width, int height);
  [[nodiscard]] int width() const { return width_; }
  [[nodiscard]] int height() const { return height_; }
  // RGB, row by row, 3 bytes a pixel.
  [[nodiscard]] std::span<const std::uint8_t> pixels() const { return pixels_; }
  [[nodiscard]] std::span<std::uint8_t> pixels() { return pixels_; }

  // A smooth change from one colour at the top to another at the bottom.
  void fill(const Colour& top, const Colour& bottom);
  // With a darker rim; `rim` false: one plain colour.
  void draw(const Sprite& sprite, bool rim = true);

 private:
  int width_, height_;
  std::vector<std::uint8_t> pixels_;
};

// The pixels that `draw` fills at least by half: 255, others 0.
std::vector<std::uint8_t> mask_of(const Sprite& sprite, int width, int height);
// The smallest box around a mask of side x side pixels; empty when no pixel is set.
std::optional<Box> box_of(std::span<const std::uint8_t> mask, int side);
// Three different pixels on the object: those nearest to the middle and to the two lower quarters
// of its box, as "[x,y] [x,y] [x,y]".
std::string points_text(std::span<const std::uint8_t> mask, int side, const Box& box);

}  // namespace crabcast::data
