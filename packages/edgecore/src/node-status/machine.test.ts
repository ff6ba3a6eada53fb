import { mkdtemp, rm } from 'node:fs/promises'
import { arch, cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLog } from '@holdfast/runtime'
import { expect, onTestFinished, test } from 'vitest'
import { LinuxMachine, addressesOf, defaultInterface, kubernetesArchitecture, memoryField, osImage } from './machine.ts'

test('this machine says what it is', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-machine-'))
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }))
  const sample = await new LinuxMachine({ dataDir }, { log: silentLog }).sample()
  expect(sample.cpus).toBe(cpus().length)
  expect(sample.memoryBytes).toBeGreaterThan(2 ** 26)
  expect(sample.memoryAvailableBytes).toBeLessThanOrEqual(sample.memoryBytes)
  expect(sample.diskBytes).toBeGreaterThan(sample.diskAvailableBytes)
  expect(sample.pids).toBeGreaterThan(1)
  expect(sample.pidsMax).toBeGreaterThan(sample.pids)
  expect(sample.kernelVersion).toBe(release())
  expect(sample.architecture).toBe(kubernetesArchitecture(arch()))
  expect(sample.bootId).toMatch(/^[0-9a-f-]{36}$/)
  for (const address of sample.addresses) expect(address).not.toMatch(/^127\.|^::1$/)
})

test('a data directory that is not there is an error', async () => {
  const machine = new LinuxMachine({ dataDir: join(tmpdir(), 'holdfast-nothing-here') }, { log: silentLog })
  await expect(machine.sample()).rejects.toThrow('ENOENT')
})

test('MemAvailable and PRETTY_NAME are read as they are written', () => {
  expect(memoryField('MemTotal:       24684084 kB\nMemFree:  1 kB\nMemAvailable:   22536628 kB\n', 'MemAvailable')).toBe(22_536_628 * 1024)
  expect(memoryField('', 'MemTotal')).toBeUndefined()
  expect(osImage('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')).toBe('Debian GNU/Linux 12 (bookworm)')
  expect(osImage("PRETTY_NAME='Yocto \\$5'\n")).toBe('Yocto $5')
  expect(osImage('PRETTY_NAME=Alpine\n')).toBe('Alpine')
  expect(osImage('')).toBe('')
})

test('the address is that of the default route, never loopback or link-local', () => {
  const routes = [
    'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
    'wlan0\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\t0\t0\t0',
    'eth1\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0',
    'eth1\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0', ''
  ].join('\n')
  expect(defaultInterface(routes)).toBe('eth1')
  expect(defaultInterface('')).toBeUndefined()
  const info = (address: string, family: 'IPv4' | 'IPv6', internal = false) =>
    ({ address, family, internal, netmask: '', mac: '', cidr: null, scopeid: 0 })
  const interfaces = {
    lo: [info('127.0.0.1', 'IPv4', true), info('::1', 'IPv6', true)],
    docker0: [info('172.17.0.1', 'IPv4')],
    eth1: [info('fe80::1', 'IPv6'), info('169.254.3.4', 'IPv4'), info('192.0.2.7', 'IPv4'), info('2001:db8::7', 'IPv6')]
  }
  expect(addressesOf(interfaces, 'eth1')).toEqual(['192.0.2.7', '2001:db8::7'])
  expect(addressesOf(interfaces, undefined)).toEqual(['172.17.0.1', '2001:db8::7'])
  expect(addressesOf({ lo: interfaces.lo }, undefined)).toEqual([])
})

test('processors have Kubernetes\' names', () => {
  expect(['x64', 'arm64', 'arm', 'riscv64'].map(kubernetesArchitecture)).toEqual(['amd64', 'arm64', 'arm', 'riscv64'])
})
