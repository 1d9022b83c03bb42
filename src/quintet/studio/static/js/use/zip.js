// Several files as one: an archive whose files are stored as they are (PKWARE's APPNOTE, 4.3).

const bytes = (size) => (value) => Array.from({ length: size }, (_, i) => (value >>> (8 * i)) & 255);
const u2 = bytes(2), u4 = bytes(4), UTF8 = 0x800, VERSION = 20, DAY = 33;  // the first day that the format knows

/** The checksum that archives have (CRC-32, ITU-T V.42). */
export function crc32(content) {
  let sum = -1;
  for (const byte of content) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (0xedb88320 & -(sum & 1));
  }
  return ~sum >>> 0;
}

/** `files`: what a Blob is made of, by name. */
export async function zip(files) {
  const parts = [], list = [];
  let at = 0, listed = 0;
  for (const [name, part] of Object.entries(files)) {
    const content = new Uint8Array(await new Blob([part]).arrayBuffer()), title = new TextEncoder().encode(name);
    const about = [u2(VERSION), u2(UTF8), u2(0), u2(0), u2(DAY), u4(crc32(content)), u4(content.length), u4(content.length), u2(title.length), u2(0)].flat();
    const head = [0x50, 0x4b, 3, 4, ...about], entry = [0x50, 0x4b, 1, 2, ...u2(VERSION), ...about, ...bytes(10)(0), ...u4(at)];
    parts.push(new Uint8Array(head), title, content);
    list.push(new Uint8Array(entry), title);
    at += head.length + title.length + content.length;
    listed += entry.length + title.length;
  }
  const count = list.length / 2, end = [0x50, 0x4b, 5, 6, ...u4(0), ...u2(count), ...u2(count), ...u4(listed), ...u4(at), ...u2(0)];
  return new Blob([...parts, ...list, new Uint8Array(end)], { type: "application/zip" });
}
