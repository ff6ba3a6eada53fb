import { describe, expect, it } from 'vitest'
import { decodeDer, decodePem, derInteger, derObjectIdentifier, derTime, encodeDer, encodePem } from './der.ts'

describe('DER', () => {
  it.each([0, 127, 128, 255, 256, 65_535, 65_536])('reads back content of %i bytes', length => {
    const encoded = encodeDer(0x04, Buffer.alloc(length, 7))
    expect(decodeDer(encoded)).toEqual([{ tag: 4, content: Buffer.alloc(length, 7), raw: encoded }])
  })

  it.each([
    ['no length', [0x30]],
    ['a content that ends early', [0x04, 0x02, 0x00]],
    ['an indefinite length', [0x30, 0x80, 0, 0]],
    ['a long form where the short fits', [0x04, 0x81, 0x01, 0x00]],
    ['a length with a leading zero', [0x04, 0x82, 0x00, 0x80]],
    ['a length of gigabytes', [0x04, 0x84, 0xff, 0xff, 0xff, 0xff]], ['a tag of several bytes', [0x1f, 0x20, 0x00]]
  ])('is not %s', (_what, bytes) => {
    expect(decodeDer(Buffer.from(bytes))).toBeUndefined()
  })

  it('has positive integers, base-128 arcs, and two kinds of time [RFC 5280 §4.1.2.5]', () => {
    expect(derInteger(Buffer.from([0x80])).toString('hex')).toBe('02020080')
    expect(derInteger(Buffer.from([0, 0, 5])).toString('hex')).toBe('020105')
    expect(derObjectIdentifier('1.2.840.10045.4.3.2').toString('hex')).toBe('06082a8648ce3d040302')
    expect(derTime(0).toString('latin1')).toBe('\x17\x0d700101000000Z')
    expect(derTime(Date.UTC(2049, 11, 31, 23, 59, 59, 999)).toString('latin1')).toBe('\x17\x0d491231235959Z')
    expect(derTime(Date.UTC(2050, 0, 1)).toString('latin1')).toBe('\x18\x0f20500101000000Z')
  })

  it('travels as one PEM block, exactly', () => {
    const bytes = Buffer.alloc(100, 3)
    const pem = encodePem('THING', bytes)
    expect(decodePem('THING', pem)).toEqual(bytes)
    expect(decodePem('OTHER', pem)).toBeUndefined()
    expect(decodePem('THING', pem + pem)).toBeUndefined()
    expect(decodePem('THING', pem.replace('\n-----END', 'A\n-----END'))).toBeUndefined()
  })
})
