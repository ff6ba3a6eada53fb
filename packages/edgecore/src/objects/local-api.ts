import { chmod, readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { makePrivateFolder, privateFileMode, writeFileAtomic } from '@holdfast/runtime'
import type { Clock, Log, Random, Service } from '@holdfast/runtime'
import {
  KubeApiServer, Registry, StatusError, builtInResources, forbiddenTo, isOpenPath, writeKubeconfig
} from '@holdfast/kube-api/serving'
import type { Authorizer, Resource } from '@holdfast/kube-api'
import { downCollections } from './collections.ts'
import { deviceResources } from './device-resources.ts'
import type { NodeObjects } from './node-objects.ts'
import { loadServingCertificate } from './serving-certificate.ts'

export interface LocalApiOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  readonly dataDir: string
  readonly node: string
  /** Release of this software. */
  readonly version: string
  /** As Kubernetes calls it: `linux/arm64`. */
  readonly platform: string
}

export interface LocalApiComponents {
  readonly objects: NodeObjects
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Who has the token of `local.kubeconfig`. */
const localUser = { name: 'holdfast:local', groups: ['system:authenticated'] }

/** For the group of edgecore's user, too. */
const kubeconfigMode = 0o640
const loopback = ['127.0.0.1', '::1', 'localhost']
const readingVerbs = ['get', 'list', 'watch']
/** There are no Events on a node; `kubectl describe` asks for them. */
const served: ReadonlySet<string> = new Set<string>([...downCollections, 'namespaces', 'events'])

/**
 * The API of Kubernetes for what is on this node, online or not: HTTPS with a certificate of its own, for reading only
 * (docs/adr/0002). `local.kubeconfig` in the data directory has what kubectl needs.
 *
 * On loopback whoever is on the machine may read all but Secrets; these need the token. Elsewhere everything but version and
 * health does.
 */
export class LocalApi implements Service {
  readonly name = 'local-api'
  readonly #server: KubeApiServer
  readonly #objects: NodeObjects

  private constructor(server: KubeApiServer, objects: NodeObjects) {
    this.#server = server
    this.#objects = objects
  }

  /** Rejects with `LISTEN_FAILED`, or where the data directory cannot be written. */
  static async open(options: LocalApiOptions, components: LocalApiComponents): Promise<LocalApi> {
    const { host, port, dataDir, node, version, platform } = options
    const { objects, clock, random, log } = components
    const folder = join(dataDir, 'local-api')
    await makePrivateFolder(folder)
    const names = [...new Set([...loopback, node, ...isIP(host) === 0 || host === '0.0.0.0' || host === '::' ? [] : [host]])]
    const { certificatePem, keyPem } = await loadServingCertificate(folder, names, { random })
    const token = await loadToken(join(folder, 'token'), random)
    const server = await KubeApiServer.open({
      name: 'localApi', host, port,
      tls: { certificatePem, keyPem },
      tokens: [{ token, user: localUser }],
      version: {
        major: '1', minor: '32', gitVersion: `v1.32.0+holdfast.${version}`, gitCommit: '', buildDate: '1970-01-01T00:00:00Z',
        platform
      },
      hostNames: [node]
    }, {
      registry: new Registry([
        ...builtInResources().filter(({ group, plural }) => group === '' && served.has(plural)), ...deviceResources()
      ].map(forReading)),
      objects, clock, random, log,
      authorizer: readersOnly(loopback.includes(host))
    })
    const kubeconfigPath = join(dataDir, 'local.kubeconfig')
    try {
      await writeKubeconfig(kubeconfigPath, {
        name: node, server: server.url, caPem: certificatePem, token
      }, kubeconfigMode)
      // Whatever the umask has taken away.
      await chmod(kubeconfigPath, kubeconfigMode)
    } catch (error) {
      await server.close()
      throw error
    }
    return new LocalApi(server, objects)
  }

  get url(): string { return this.#server.url }

  /** Requests being handled now, without watches. */
  get requestsInFlight(): number { return this.#server.requestsInFlight }

  get watches(): number { return this.#objects.watches }

  async run(signal: AbortSignal): Promise<void> {
    await this.#server.run(signal)
    await this.#objects.close()
  }
}

function forReading(resource: Resource): Resource {
  return { ...resource, verbs: readingVerbs, subresources: [], mergeSchema: undefined }
}

function readersOnly(anonymousReads: boolean): Authorizer {
  return (user, attributes) => {
    const { verb, target, path } = attributes
    if (target !== undefined && !readingVerbs.includes(verb)) {
      const { name, group, plural } = target
      return new StatusError(403, 'Forbidden',
        'this node serves what the cluster has sent to it, for reading only: change it in the cluster',
        { ...name !== undefined && { name }, group, kind: plural })
    }
    if (user.name === localUser.name || isOpenPath(path)) return undefined
    return anonymousReads && target?.plural !== 'secrets' ? undefined : forbiddenTo(user, attributes)
  }
}

/** 32 random bytes; the same at every start, so that what was given the kubeconfig goes on. */
async function loadToken(path: string, random: Random): Promise<string> {
  const stored = await readFile(path, 'utf8').catch(() => '')
  if (/^[A-Za-z0-9_-]{43}$/.test(stored)) return stored
  const token = Buffer.from(random.bytes(32)).toString('base64url')
  await writeFileAtomic(path, token, privateFileMode)
  return token
}
