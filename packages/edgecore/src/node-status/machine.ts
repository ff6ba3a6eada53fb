import { readFile, statfs } from 'node:fs/promises'
import { arch, cpus, freemem, networkInterfaces, release, totalmem } from 'node:os'
import type { NetworkInterfaceInfo } from 'node:os'
import { describeError } from '@holdfast/runtime'
import type { Log } from '@holdfast/runtime'

/** What a machine is, and how it is doing. Sizes are bytes. */
export interface MachineSample {
  readonly cpus: number
  readonly memoryBytes: number
  readonly memoryAvailableBytes: number
  /** Of the file system of the data directory. */
  readonly diskBytes: number
  readonly diskAvailableBytes: number
  /** 0: the file system has no fixed number. */
  readonly inodes: number
  readonly inodesFree: number
  readonly pids: number
  readonly pidsMax: number
  /** The address of the interface with the default route first; empty without a network. */
  readonly addresses: readonly string[]
  readonly machineId: string
  readonly systemUuid: string
  readonly bootId: string
  readonly kernelVersion: string
  readonly osImage: string
  /** As Kubernetes calls it: `amd64`, `arm64`, `arm`. */
  readonly architecture: string
}

export interface Machine { sample(): Promise<MachineSample> }

/** This machine, through /proc, /sys, /etc and statfs. */
export class LinuxMachine implements Machine {
  readonly #dataDir: string
  readonly #log: Log
  /** Places that could not be read and were told of. */
  readonly #told = new Set<string>()

  constructor(options: { readonly dataDir: string }, components: { readonly log: Log }) {
    this.#dataDir = options.dataDir
    this.#log = components.log
  }

  /** As Go writes it: `linux/arm64`. */
  get platform(): string { return `linux/${kubernetesArchitecture(arch())}` }

  /** What cannot be read counts as 0 or is empty, and is logged once. Rejects where the data directory cannot be looked at. */
  async sample(): Promise<MachineSample> {
    const [disk, memory, load, pidMax, threadsMax, routes, bootId, osRelease, machineId, dbusId, uuid] = await Promise.all([
      statfs(this.#dataDir),
      this.#read('/proc/meminfo'),
      this.#read('/proc/loadavg'),
      this.#read('/proc/sys/kernel/pid_max'),
      this.#read('/proc/sys/kernel/threads-max'),
      this.#tryRead('/proc/net/route'),
      this.#read('/proc/sys/kernel/random/boot_id'),
      this.#tryRead('/etc/os-release'),
      this.#tryRead('/etc/machine-id'),
      this.#tryRead('/var/lib/dbus/machine-id'),
      // Root alone may read it.
      this.#tryRead('/sys/class/dmi/id/product_uuid')
    ])
    const id = machineId.trim() || dbusId.trim()
    return {
      cpus: cpus().length,
      memoryBytes: memoryField(memory, 'MemTotal') ?? totalmem(),
      memoryAvailableBytes: memoryField(memory, 'MemAvailable') ?? freemem(),
      diskBytes: disk.blocks * disk.bsize,
      diskAvailableBytes: disk.bavail * disk.bsize,
      inodes: disk.files,
      inodesFree: disk.ffree,
      pids: Number(/\d+\/(\d+)/.exec(load)?.[1] ?? 0),
      pidsMax: Math.min(...[pidMax, threadsMax].map(Number).filter(value => value > 0)),
      addresses: this.#addresses(defaultInterface(routes)),
      machineId: id,
      systemUuid: uuid.trim().toLowerCase() || id,
      bootId: bootId.trim(),
      kernelVersion: release(),
      osImage: osImage(osRelease),
      architecture: kubernetesArchitecture(arch())
    }
  }

  async #read(path: string): Promise<string> {
    try {
      return await readFile(path, 'utf8')
    } catch (error) {
      this.#tell(path, error)
      return ''
    }
  }

  #addresses(preferred: string | undefined): string[] {
    try {
      return addressesOf(networkInterfaces(), preferred)
    } catch (error) {
      this.#tell('network interfaces', error)
      return []
    }
  }

  #tell(what: string, error: unknown): void {
    if (!this.#told.has(what)) this.#log.warn('a part of the node status cannot be read', { what, error: describeError(error) })
    this.#told.add(what)
  }

  /** For what is not there on every machine. */
  async #tryRead(path: string): Promise<string> {
    return await readFile(path, 'utf8').catch(() => '')
  }
}

/** Bytes of a line such as `MemTotal:       24684084 kB`. */
export function memoryField(meminfo: string, name: string): number | undefined {
  const kibibytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(meminfo)?.[1]
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024
}

/** PRETTY_NAME of /etc/os-release, with or without quotes (os-release(5)). */
export function osImage(osRelease: string): string {
  const value = /^PRETTY_NAME=(.*)$/m.exec(osRelease)?.[1]?.trim() ?? ''
  return /^(["']).*\1$/.test(value) ? value.slice(1, -1).replaceAll(/\\(.)/g, '$1') : value
}

/** The interface of the default route with the least metric in /proc/net/route. */
export function defaultInterface(routes: string): string | undefined {
  return routes.split('\n').slice(1)
    .map(line => line.trim().split(/\s+/))
    .filter(([, destination, , , , , , mask]) => destination === '00000000' && mask === '00000000')
    .toSorted((a, b) => Number(a[6]) - Number(b[6]))[0]?.[0]
}

/** At most one IPv4 and one IPv6 address: neither loopback nor link-local; those of `preferred` before others. */
export function addressesOf(
  interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>, preferred: string | undefined
): string[] {
  const usable = Object.entries(interfaces)
    .toSorted(([a], [b]) => Number(b === preferred) - Number(a === preferred) || (a < b ? -1 : 1))
    .flatMap(([, infos]) => infos ?? [])
    .filter(({ internal, address }) => !internal && !/^(169\.254\.|fe[89ab])/i.test(address))
  return (['IPv4', 'IPv6'] as const)
    .flatMap(family => usable.find(info => info.family === family)?.address ?? [])
}

/** Node's name for a processor as Kubernetes (GOARCH) writes it. */
export function kubernetesArchitecture(nodeArchitecture: string): string {
  const names: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le', mipsel: 'mipsle' }
  return names[nodeArchitecture] ?? nodeArchitecture
}
