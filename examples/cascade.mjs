// Runs a cascade that is one ONNX file: node cascade.mjs cascade.onnx images.raw 28 28 1
// The last three are height, width and channels; images.raw holds their bytes, image after image.
import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";

const [path, raw, ...shape] = process.argv.slice(2);
const bytes = new Uint8Array(readFileSync(raw)), sides = shape.map(Number);
const count = bytes.length / sides.reduce((a, b) => a * b);
const session = await InferenceSession.create(path);
const made = await session.run({ image: new Tensor("uint8", bytes, [count, ...sides]) });
for (let i = 0; i < count; i++)
  console.log(Number(made.class.data[i]), made.confidence.data[i], Number(made.stage.data[i]));
