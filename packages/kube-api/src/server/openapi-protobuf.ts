/** Fields of openapi.v2.Document and .Info (gnostic, openapiv2/OpenAPIv2.proto). */
const fields = { document: { swagger: 1, info: 2, paths: 8 }, info: { title: 1, version: 2 } } as const

function lengthDelimited(field: number, content: Buffer): Buffer {
  if (content.length > 127) throw new RangeError(`a field of ${content.length} bytes needs a longer varint`)
  return Buffer.concat([Buffer.from([field << 3 | 2, content.length]), content])
}

/** A Swagger 2.0 document without paths and definitions, in the protobuf form that kubectl asks for. */
export function emptyDocumentV2({ title, version }: { readonly title: string, readonly version: string }): Buffer {
  const info = Buffer.concat([
    lengthDelimited(fields.info.title, Buffer.from(title)), lengthDelimited(fields.info.version, Buffer.from(version))
  ])
  return Buffer.concat([
    lengthDelimited(fields.document.swagger, Buffer.from('2.0')),
    lengthDelimited(fields.document.info, info),
    lengthDelimited(fields.document.paths, Buffer.alloc(0))
  ])
}
