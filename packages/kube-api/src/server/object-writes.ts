import type { Clock, Random } from '@holdfast/runtime'
import { generatedName } from '../meta-rules.ts'
import type { Json, JsonObject, KubeObject } from '../object.ts'
import { decideDeletion, released, timestamp } from '../object-store-deletion.ts'
import type { ObjectKey, ObjectWriter, StoredObject, WriteDecision, WriteResult } from '../object-store-types.ts'
import { applyJsonPatch } from '../patch/json-patch.ts'
import { applyMergePatch } from '../patch/merge-patch.ts'
import { applyStrategicMergePatch } from '../patch/strategic-merge-patch.ts'
import { resourceName, type DecodedObject, type FieldValidation, type Resource, type Subresource } from '../resource.ts'
import { StatusError } from '../status-error.ts'
import { invalidObject, invalidValue } from '../validation/causes.ts'
import type { ApiReply } from './http-host.ts'
import { jsonReply } from './json-reply.ts'
import { parseJsonBody } from './json-body.ts'
import { kubeApiServerLimits as limits } from './limits.ts'
import { mediaType, negotiate } from './negotiation.ts'
import type { ObjectReads } from './object-reads.ts'
import type { ObjectRequest } from './object-request.ts'
import { inOrder } from './object-view.ts'
import { parseProtobufBody, protobufType } from './protobuf-body.ts'
import {
  alreadyExists, badRequest, conflict, forbidden, modified, namespaceTerminating, notFound, unknownBodyFormat
} from './refusals.ts'
import { parseDeleteOptions, parseWriteOptions, type DeleteOptions, type WriteOptions } from './request-options.ts'
import { selectionOf } from './selection.ts'
import { deletedStatus } from './status-body.ts'
import { warningHeaders } from './warnings.ts'

export interface ObjectWritesComponents {
  readonly writer: ObjectWriter
  readonly reads: ObjectReads
  readonly clock: Clock
  readonly random: Random
}

/** A deletion of these is answered with the object rather than with a Status. */
const deletionShowsObject = new Set(['pods', 'podtemplates', 'serviceaccounts', 'services'])

const strategicMergePatch = 'application/strategic-merge-patch+json'

const bodyTypes = ['application/json', protobufType]

const protectedNamespaces = new Set(['default', 'kube-system', 'kube-public'])

const deletesTogether = 64

/** create, update, patch, delete and deletecollection. */
export class ObjectWrites {
  readonly #writer: ObjectWriter
  readonly #reads: ObjectReads
  readonly #clock: Clock
  readonly #random: Random

  constructor({ writer, reads, clock, random }: ObjectWritesComponents) {
    this.#writer = writer
    this.#reads = reads
    this.#clock = clock
    this.#random = random
  }

  async create(request: ObjectRequest): Promise<ApiReply> {
    const options = parseWriteOptions(request.query, 'CreateOptions')
    const { object, warnings } = await this.#decodedBody(request, options)
    this.#placeInNamespace(object, request)
    this.#admitInNamespace(request, object.metadata.name ?? '')
    const { name: given = '', generateName = '' } = object.metadata
    const isGenerated = given === '' && generateName !== ''
    for (let tries = 1; ; tries++) {
      const candidate = isGenerated ? structuredClone(object) : object
      if (isGenerated) candidate.metadata.name = generatedName(generateName, below => this.#below(below))
      const name = candidate.metadata.name ?? ''
      const created = this.#created(request, candidate)
      try {
        const result = await this.#write(this.#key(request, name), current => {
          if (current !== undefined) {
            throw alreadyExists(request.resource, name, current.object.metadata.deletionTimestamp !== undefined)
          }
          this.#admitInNamespace(request, name)
          return { kind: 'put', object: created, shownBy: shownBy(request) }
        }, options.dryRun)
        return this.#shown(request, result, warnings, 201)
      } catch (error) {
        const isTaken = error instanceof StatusError && error.reason === 'AlreadyExists'
        if (!isGenerated || !isTaken || tries === limits.generatedNameTriesMax.value) throw error
      }
    }
  }

  /** A document made into a new object, as it is to be stored. Throws 405, 422 and 500. */
  #created(request: ObjectRequest, object: KubeObject): KubeObject {
    const { resource } = request
    const { metadata } = object
    const { resourceVersion = '' } = metadata
    metadata.uid = this.#uid()
    metadata.creationTimestamp = timestamp(this.#clock.wallMs())
    delete metadata.resourceVersion
    resource.prepareForCreate(object)
    const causes = resource.validate(object, undefined)
    if (causes.length > 0) throw invalidObject(resource, metadata.name ?? '', causes)
    if (resourceVersion !== '') {
      throw new StatusError(500, '', 'resourceVersion should not be set on objects to be created')
    }
    this.#refuseTerminating(request)
    return this.#storedForm(request, object)
  }

  #refuseTerminating({ resource, isTerminating }: ObjectRequest): void {
    if (!isTerminating()) return
    throw new StatusError(405, 'MethodNotAllowed', 'create not allowed while custom resource definition is terminating',
      { group: resource.group, kind: resource.plural })
  }

  async update(request: ObjectRequest): Promise<ApiReply> {
    const { resource, target } = request
    const options = parseWriteOptions(request.query, 'UpdateOptions')
    const { object, warnings } = await this.#decodedBody(request, options)
    const { metadata } = object
    this.#checkName(object, target.name!)
    this.#placeInNamespace(object, request)
    const { uid = '', resourceVersion = '' } = metadata
    let isCreated = false
    const result = await this.#write(this.#key(request, target.name!), current => {
      if (current === undefined) {
        isCreated = resource.allowsCreateOnUpdate === true && Number(resourceVersion) === 0
        if (!isCreated) throw notFound(resource, target.name!)
        this.#admitInNamespace(request, target.name!)
        return { kind: 'put', object: this.#created(request, object), shownBy: shownBy(request) }
      }
      const currentUid = current.object.metadata.uid ?? ''
      if (uid !== '' && uid !== currentUid) {
        throw conflict(resource, target.name!, `Precondition failed: UID in precondition: ${uid}, UID in object meta: `
          + currentUid)
      }
      this.#checkVersion(request, object, current, true)
      return this.#replacement(request, object, current)
    }, options.dryRun)
    return this.#shown(request, result, warnings, isCreated ? 201 : 200, object)
  }

  async patch(request: ObjectRequest): Promise<ApiReply> {
    const { resource, target } = request
    const type = this.#patchType(request)
    const options = parseWriteOptions(request.query, 'PatchOptions')
    const apply = await this.#patchOf(request, type)
    const warnings: string[] = []
    let next: KubeObject | undefined
    const result = await this.#write(this.#key(request, target.name!), current => {
      if (current === undefined) throw notFound(resource, target.name!)
      const patched = apply(request.view.of(current).object)
      const decoded = this.#decodedPatch(request, patched, options.fieldValidation)
      warnings.push(...decoded.warnings)
      next = decoded.object
      this.#checkName(decoded.object, target.name!)
      this.#placeInNamespace(decoded.object, request)
      this.#checkVersion(request, decoded.object, current, false)
      return this.#replacement(request, decoded.object, current)
    }, options.dryRun)
    return this.#shown(request, result, warnings, 200, next)
  }

  async delete(request: ObjectRequest): Promise<ApiReply> {
    const { resource, target, view } = request
    const options = await this.#deleteOptions(request)
    if (resource.group === '' && resource.plural === 'namespaces' && protectedNamespaces.has(target.name!)) {
      throw forbidden(resource, target.name!, 'this namespace may not be deleted')
    }
    const key = this.#key(request, target.name!)
    const result = await this.#write(key, current => {
      if (current === undefined) throw notFound(resource, target.name!)
      return this.#deletion(request, current, options)
    }, options.dryRun)
    if (result.kind !== 'deleted') return this.#shown(request, result, [])
    const { previous } = result
    if (deletionShowsObject.has(resourceName(resource))) {
      return { status: 200, headers: { 'content-type': 'application/json' }, body: view.of(previous).json }
    }
    return jsonReply(deletedStatus(resource, previous.name, previous.object.metadata.uid ?? ''))
  }

  /** Answers with what was there, whether it is gone or held by finalizers. */
  async deleteCollection(request: ObjectRequest): Promise<ApiReply> {
    const { view, query } = request
    const options = await this.#deleteOptions(request)
    const { items, revision } = await this.#writer.list(selectionOf(request), {
      resourceVersion: query.get('resourceVersion') ?? undefined,
      resourceVersionMatch: query.get('resourceVersionMatch') ?? undefined
    })
    for (let i = 0; i < items.length; i += deletesTogether) {
      await Promise.all(items.slice(i, i + deletesTogether).map(({ resource, namespace, name, object }) =>
        this.#write({ resource, namespace, name }, current => {
          // Another one of the same name was not chosen.
          if (current?.object.metadata.uid !== object.metadata.uid || current === undefined) return { kind: 'none' }
          return this.#deletion(request, current, options)
        }, options.dryRun)))
    }
    const metadata = { ...request.isCustom && { continue: '' }, resourceVersion: String(revision) }
    return { status: 200, headers: { 'content-type': 'application/json' }, body: view.list(metadata, items) }
  }

  async #decodedBody(request: ObjectRequest, options: WriteOptions): Promise<DecodedObject> {
    const { resource, headers, body } = request
    const type = mediaType(headers['content-type'])
    if (type === protobufType && request.isCustom) throw unknownBodyFormat(['application/json'])
    if (type === protobufType) return resource.decode(parseProtobufBody(await body()), options.fieldValidation)
    if (type !== '' && type !== 'application/json') throw unknownBodyFormat(bodyTypes)
    const what = `the object provided is unrecognized (must be of type ${resource.kind}): couldn't get version/kind`
    const { document, duplicates } = parseJsonBody(await body(), what)
    if (!isObject(document)) throw badRequest(`${what}: the body is not a JSON object`)
    return resource.decode(document, options.fieldValidation, duplicates)
  }

  /** Throws 415 for what is no patch, and for server-side apply. */
  #patchType({ resource, headers }: ObjectRequest): string {
    const type = mediaType(headers['content-type'])
    const accepted = ['application/json-patch+json', 'application/merge-patch+json',
      ...resource.mergeSchema === undefined ? [] : [strategicMergePatch]]
    if (accepted.includes(type)) return type
    if (type === 'application/apply-patch+yaml') {
      throw new StatusError(415, 'UnsupportedMediaType', 'server-side apply is not served here: apply on the client side, or '
        + `send one of ${accepted.join(', ')}`)
    }
    if (type === strategicMergePatch) throw unknownBodyFormat(accepted)
    throw new StatusError(415, 'UnsupportedMediaType', '415: Unsupported Media Type', {})
  }

  /** What a client's patch does to a document. Throws 400 and 413 where it is none. */
  async #patchOf({ resource, body }: ObjectRequest, type: string): Promise<(current: KubeObject) => Json> {
    const { document: patch } = parseJsonBody(await body(), 'error decoding patch')
    switch (type) {
      case 'application/json-patch+json': return current => applyJsonPatch(current, patch)
      case strategicMergePatch: return current => applyStrategicMergePatch(current, patch, resource.mergeSchema!)
      default: return current => applyMergePatch(current, patch)
    }
  }

  /** A patched document that is no object of its kind any more is 422, where a body would be 400. */
  #decodedPatch({ resource }: ObjectRequest, patched: Json, mode: FieldValidation): DecodedObject {
    try {
      return resource.decode(patched, mode)
    } catch (error) {
      if (!(error instanceof StatusError) || error.code !== 400) throw error
      throw invalidObject({ group: '', kind: '' }, '', [invalidValue('patch', JSON.stringify(patched), error.message)])
    }
  }

  #checkName({ metadata: { name = '' } }: KubeObject, nameOnUrl: string): void {
    if (name === nameOnUrl) return
    throw badRequest(name === ''
      ? `the name of the object (${nameOnUrl} based on URL) was undeterminable: name must be provided`
      : `the name of the object (${name}) does not match the name on the URL (${nameOnUrl})`)
  }

  #placeInNamespace({ metadata }: KubeObject, { target }: ObjectRequest): void {
    if (target.namespace === undefined) {
      delete metadata.namespace
      return
    }
    if ((metadata.namespace ?? '') !== '' && metadata.namespace !== target.namespace) {
      throw badRequest('the namespace of the provided object does not match the namespace sent on the request')
    }
    metadata.namespace = target.namespace
  }

  /** New objects need a namespace that is there and stays. */
  #admitInNamespace({ resource, target: { namespace } }: ObjectRequest, name: string): void {
    if (namespace === undefined) return
    const found = this.#writer.latest({ resource: 'namespaces', namespace: '', name: namespace })
    if (found === undefined) throw notFound({ group: '', plural: 'namespaces' }, namespace)
    if (found.object.metadata.deletionTimestamp !== undefined) throw namespaceTerminating(resource, name, namespace)
  }

  #checkVersion(request: ObjectRequest, { metadata }: KubeObject, current: StoredObject, mustBeGiven: boolean): void {
    const { resource, target } = request
    const { resourceVersion = '' } = metadata
    if (resourceVersion !== '' && !/^\d+$/.test(resourceVersion)) {
      throw new StatusError(500, '', `strconv.ParseUint: parsing ${JSON.stringify(resourceVersion)}: invalid syntax`)
    }
    if (Number(resourceVersion) !== 0) {
      if (resourceVersion !== String(current.revision)) throw modified(resource, target.name!)
      return
    }
    if (mustBeGiven && resource.allowsUnconditionalUpdate !== true) {
      throw invalidObject({ group: resource.group, kind: resource.plural }, target.name!, [{
        reason: 'FieldValueInvalid',
        message: 'Invalid value: 0x0: must be specified for an update',
        field: 'metadata.resourceVersion'
      }])
    }
    metadata.resourceVersion = String(current.revision)
  }

  #replacement(request: ObjectRequest, next: KubeObject, stored: StoredObject): WriteDecision {
    const { resource, target, view } = request
    const current = view.of(stored).object
    resource.prepareForUpdate(next, current, target.subresource as Subresource | undefined)
    const causes = resource.validate(next, current)
    if (causes.length > 0) throw invalidObject(resource, target.name!, causes)
    const decision = released(this.#storedForm(request, next))
    return decision.kind === 'put' ? { ...decision, shownBy: shownBy(request) } : decision
  }

  #storedForm({ resource, storageVersion }: ObjectRequest, object: KubeObject): KubeObject {
    const apiVersion = resource.group === '' ? storageVersion : `${resource.group}/${storageVersion}`
    return inOrder({ ...object, kind: resource.kind, apiVersion })
  }

  async #deleteOptions({ query, headers, body }: ObjectRequest): Promise<DeleteOptions> {
    const bytes = await body()
    if (bytes.length === 0) return parseDeleteOptions(query, undefined)
    const type = mediaType(headers['content-type'])
    if (type === protobufType) return parseDeleteOptions(query, parseProtobufBody(bytes))
    if (type !== '' && type !== 'application/json') throw unknownBodyFormat(bodyTypes)
    return parseDeleteOptions(query, parseJsonBody(bytes, 'the DeleteOptions provided are unrecognized').document)
  }

  #deletion({ resource }: ObjectRequest, current: StoredObject, options: DeleteOptions): WriteDecision {
    const { metadata } = current.object
    const { preconditions: { uid, resourceVersion }, propagationPolicy } = options
    const named = { group: resource.group, plural: resource.kind }
    if (uid !== undefined && uid !== metadata.uid) {
      throw conflict(named, current.name, `the UID in the precondition (${uid}) does not match the UID in record `
        + `(${metadata.uid}). The object might have been deleted and then recreated`)
    }
    if (resourceVersion !== undefined && resourceVersion !== String(current.revision)) {
      throw conflict(named, current.name, `the ResourceVersion in the precondition (${resourceVersion}) does not match the `
        + `ResourceVersion in record (${current.revision}). The object might have been modified`)
    }
    const decision = decideDeletion(current, {
      nowMs: this.#clock.wallMs(), propagationPolicy, gracePeriodSeconds: options.gracePeriodSeconds
    }, resource)
    return decision.kind === 'put' ? { kind: 'put', object: inOrder(decision.object) } : decision
  }

  async #write(
    key: ObjectKey, decide: (current: StoredObject | undefined) => WriteDecision, dryRun: boolean
  ): Promise<WriteResult> {
    if (!dryRun) return this.#writer.write(key, decide)
    const current = this.#writer.latest(key)
    const decision = decide(current)
    switch (decision.kind) {
      case 'none': return { kind: 'none', stored: current }
      case 'delete': return { kind: 'deleted', revision: current!.revision, previous: current! }
      case 'put': {
        const { object } = decision
        const revision = current?.revision ?? 0
        if (current === undefined) delete object.metadata.resourceVersion
        else object.metadata.resourceVersion = String(revision)
        return {
          kind: 'put',
          stored: { ...key, revision, object, json: Buffer.from(JSON.stringify(object)) },
          previous: current
        }
      }
    }
  }

  /**
   * The outcome of a write as its answer. An update that took the last finalizer away is answered with what it made of
   * the object, which is gone: `next`.
   */
  #shown(
    request: ObjectRequest, result: WriteResult, warnings: readonly string[], status = 200, next?: KubeObject
  ): ApiReply {
    const { resource, view, query, headers, target } = request
    const form = negotiate(headers.accept, ['table', 'partial-metadata'], false)
    let shown: StoredObject
    if (result.kind === 'deleted' && next !== undefined) {
      const object = inOrder(next)
      shown = { ...result.previous, object, json: Buffer.from(JSON.stringify(object)) }
    } else {
      const stored = result.kind === 'deleted' ? result.previous : result.stored
      if (stored === undefined) throw notFound(resource, target.name ?? '')
      shown = view.of(stored)
    }
    const reply = this.#reads.single(resource, form, query, shown, status)
    return { ...reply, headers: { ...reply.headers, ...warningHeaders(warnings) } }
  }

  #key({ resource, target }: ObjectRequest, name: string): ObjectKey {
    return { resource: resourceName(resource), namespace: target.namespace ?? '', name }
  }

  #below(bound: number): number { return Math.floor(this.#random.next() * bound) }

  /** A random UUID (RFC 9562, version 4). */
  #uid(): string {
    const bytes = Buffer.from(this.#random.bytes(16))
    bytes[6] = (bytes[6]! & 0x0f) | 0x40
    bytes[8] = (bytes[8]! & 0x3f) | 0x80
    const hex = bytes.toString('hex')
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
  }
}

/** What a resource has taken in, it would show as it is, where the version that is stored is its own. */
function shownBy({ resource, storageVersion }: ObjectRequest): Resource | undefined {
  return resource.version === storageVersion ? resource : undefined
}

const isObject = (value: Json): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
